"""What a corpus is: clips, labels, clocks and cached features. Stages meet through the files described here."""
