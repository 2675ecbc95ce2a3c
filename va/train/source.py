"""What gives the training loop its batches, and hears what becomes of them."""

from collections.abc import Sequence

from torch import Tensor

from va.data.windows import WindowBatch, WindowSet
from va.train.stack import Stack


class Source:
    """What gives the loop its batches. This one: windows of cached features, below which nothing learns.

    `va finetune` has another (`va/train/finetuning/learner.py`), whose backbones learn from the gradients of a batch's
    features.

    Args:
        pool: Windows of all trials' clips.

    Attributes:
        decays_vectors: Whether weight decay acts on the heads' biases and other vectors too.
        keeps_weights: Whether the best epoch's weights can be used where a later epoch fails.
        cure: What a person can do where numbers are not finite any more.
    """

    decays_vectors = True
    keeps_weights = True
    cure = "Lower --learning-rate, set --clip-norm 1, or check the features with 'va verify'."

    def __init__(self, pool: WindowSet) -> None:
        self.pool = pool

    def begin(self, index: Tensor) -> list[Tensor]:
        """Take the windows of an epoch.

        Args:
            index: int64 [batches, N, B] on the CPU, -1 for padding.

        Returns:
            The losses of the first steps, as `Stack.step` gives them, where an interruption came after them.
        """
        self._index = index.to(self.pool.device)
        return []

    def batch(self, step: int) -> WindowBatch:
        """Give the batch of a step, [N, B, ...]."""
        return self.pool.batch(self._index[step])

    def learn(self, stack: Stack, lost: Sequence[Tensor], *, active: Sequence[bool]) -> None:
        """Learn from the gradients that the heads' last step left in its batch.

        Args:
            stack: The heads, updated.
            lost: The losses of the epoch's steps so far.
            active: Whether each trial made that step.
        """

    def renew(self) -> None:
        """Bring the pool's features of the selection clips up to date, before they are looked at."""
