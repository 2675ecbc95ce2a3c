"""The fault campaign: commands, kinds of fault, and what is looked at after each (`benchmarks/fault_campaign.py`)."""
