"""The text tower: open_clip's, with vectors in the place of words; and every trial's prototypes its own."""

from typing import Any

import open_clip
import pytest
import torch
from small_tower import PLACES, WIDTH, random_tensors
from stacking import outputs_and_gradients
from torch import Tensor, nn

from va.extract import texttower
from va.model.text import RegionTexts, from_tensors, initial_context

TEXTS = ("sad, tired, and low-energy", "calm", "excited, joyful, and very energetic")
FIRST_FREE = 1000
"""Vocabulary entries from here on stand for context vectors; the texts do not use them."""


def tower(**changes: Any) -> RegionTexts:
    return from_tensors(random_tensors(**changes), heads=2, activation="quick_gelu", eps=1e-5).double()


def tiny_clip(*, quick: bool, **text: Any) -> Any:
    """An open_clip model whose text tower is small and whose values are not all small."""
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=8,
        vision_cfg={"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
        text_cfg={"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3, **text},
        quick_gelu=quick,
    ).eval()
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for parameter in (model.token_embedding.weight, model.positional_embedding, model.text_projection):
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def copy_of(model: Any, *, places: int = 24) -> tuple[RegionTexts, Any]:
    tokenizer = open_clip.SimpleTokenizer(context_length=places)
    with torch.no_grad():
        plain = model.encode_text(tokenizer(list(TEXTS)), normalize=True).numpy()
    found = texttower.copy(model, tokenizer, TEXTS, plain=plain, encoder="x", weights="y")
    about = found.about
    return from_tensors(found.tensors, heads=about.heads, activation=about.activation, eps=about.eps), tokenizer


def with_context_as_words(model: Any, tokenizer: Any, context: Tensor) -> Tensor:
    """open_clip's own embeddings of texts before which some vocabulary entries stand; `context` is put into those."""
    tokens = tokenizer(list(TEXTS))
    count = len(context)
    free = torch.arange(FIRST_FREE, FIRST_FREE + count).expand(len(TEXTS), count)
    assert not (tokens[..., None] == free[:, None]).any()
    with torch.no_grad():
        model.token_embedding.weight[FIRST_FREE : FIRST_FREE + count] = context
    tokens = torch.cat((tokens[:, :1], free, tokens[:, 1 : tokens.shape[1] - count]), dim=1)
    found: Tensor = model.encode_text(tokens, normalize=True)
    return found


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_values_and_gradients_are_open_clips_with_vectors_as_words(quick: bool, count: int) -> None:
    model = tiny_clip(quick=quick)
    texts, tokenizer = copy_of(model)
    context = torch.randn(count, 16).requires_grad_()
    ours = texts(context)
    theirs = with_context_as_words(model, tokenizer, context.detach())
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    if count:
        upstream = torch.randn(ours.shape)
        (ours * upstream).sum().backward()
        (theirs * upstream).sum().backward()
        expected = model.token_embedding.weight.grad[FIRST_FREE : FIRST_FREE + count]
        assert context.grad is not None and context.grad.norm() > 1e-3
        torch.testing.assert_close(context.grad, expected, atol=1e-5, rtol=1e-4)


def test_the_other_activation_is_told_apart() -> None:
    """Against the oracle above passing for either."""
    quick, plain = (copy_of(tiny_clip(quick=quick))[0](torch.zeros(0, 16)) for quick in (True, False))
    assert (quick - plain).abs().max() > 1e-3


def test_all_places_can_be_used_and_no_more() -> None:
    model = tiny_clip(quick=True)
    texts, tokenizer = copy_of(model)
    context = torch.randn(texts.room, 16)
    theirs = with_context_as_words(model, tokenizer, context)
    torch.testing.assert_close(texts(context), theirs, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="does not fit"):
        texts(torch.randn(texts.room + 1, 16))
    with pytest.raises(ValueError, match="does not fit"):
        texts(torch.randn(1, 15))


class _Prototypes(nn.Module):
    """A trial's context as a parameter of its own, so that it is stacked as in a head."""

    def __init__(self, texts: RegionTexts, context: Tensor) -> None:
        super().__init__()
        self.context = nn.Parameter(context)
        self._texts = [texts]  # in a list: not a sub-module, not stacked

    def forward(self) -> Tensor:
        found: Tensor = self._texts[0](self.context)
        return found


def test_trials_do_not_see_each_other() -> None:
    """Values, gradients, and one trial's NaN."""
    texts = tower()
    contexts = torch.randn(3, 4, WIDTH, dtype=torch.float64)
    (together,), gradients = outputs_and_gradients(_Prototypes(texts, contexts))
    assert together.shape == (3, 9, 8)
    for trial in range(3):
        (alone,), own = outputs_and_gradients(_Prototypes(texts, contexts[trial : trial + 1]))
        torch.testing.assert_close(together[trial], alone[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(gradients["context"][trial], own["context"][0], atol=1e-12, rtol=0)
        torch.testing.assert_close(texts(contexts[trial]), together[trial], atol=1e-12, rtol=0)
    contexts[0, 1] = torch.nan
    (beside,), beside_gradients = outputs_and_gradients(_Prototypes(texts, contexts))
    assert beside[0].isnan().all()
    torch.testing.assert_close(beside[1:], together[1:], atol=0, rtol=0)
    torch.testing.assert_close(beside_gradients["context"][1:], gradients["context"][1:], atol=0, rtol=0)


def test_what_lies_behind_a_texts_end_changes_nothing() -> None:
    tensors = random_tensors()
    context = torch.randn(2, WIDTH)
    before = from_tensors(tensors, heads=2, activation="gelu", eps=1e-5)(context)
    changed = tensors | {"words": tensors["words"].clone()}
    for region, length in enumerate(tensors["lengths"].tolist()):
        changed["words"][region, length:] = 7.0
    torch.testing.assert_close(from_tensors(changed, heads=2, activation="gelu", eps=1e-5)(context), before)
    changed["words"][3, int(tensors["lengths"][3]) - 1] = 7.0
    after = from_tensors(changed, heads=2, activation="gelu", eps=1e-5)(context)
    assert [bool((after[region] - before[region]).abs().max() > 1e-3) for region in range(9)] == [
        region == 3 for region in range(9)
    ]


def test_only_the_context_is_trained() -> None:
    texts = tower()
    context = torch.randn(2, WIDTH, dtype=torch.float64).requires_grad_()
    texts(context).square().sum().backward()
    assert not [name for name, parameter in texts.named_parameters() if parameter.requires_grad]
    assert all(parameter.grad is None for parameter in texts.parameters())
    torch.testing.assert_close(texts(context).norm(dim=-1), torch.ones(9, dtype=torch.float64))


def test_first_vectors_are_normal_with_deviation_002() -> None:
    drawn = initial_context(count=100, width=512, generator=torch.Generator().manual_seed(1))
    assert drawn.dtype == torch.float32 and drawn.shape == (100, 512)
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(drawn.mean())) < 5e-4


def test_building_draws_no_random_numbers() -> None:
    tensors = random_tensors()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    from_tensors(tensors, heads=2, activation="gelu", eps=1e-5)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm.bias": None}, "norm.bias"),
        ({"words": None}, "words"),
        ({"extra": torch.zeros(1)}, "extra"),
        ({"blocks.1.down.weight": torch.zeros(WIDTH, WIDTH)}, "size mismatch|RegionTexts"),
        ({"words": torch.zeros(9, WIDTH)}, "unpack"),
        ({"start": torch.zeros(WIDTH, dtype=torch.float16)}, "start is torch.float16"),
        ({"lengths": torch.zeros(9, dtype=torch.int64)}, "lengths must lie in 1 to 5"),
        ({"lengths": torch.full((9,), 6)}, "lengths must lie in 1 to 5"),
        ({"lengths": torch.ones(9)}, "lengths is torch.float32"),
    ],
)
def test_tensors_that_are_no_tower_are_refused(changes: dict[str, Tensor | None], message: str) -> None:
    tensors = {name: each for name, each in (random_tensors() | changes).items() if each is not None}
    with pytest.raises(ValueError, match=message):
        from_tensors(tensors, heads=2, activation="gelu", eps=1e-5)


@pytest.mark.parametrize(("heads", "activation"), [(5, "gelu"), (0, "gelu"), (2, "relu")])
def test_settings_that_do_not_exist_are_refused(heads: int, activation: str) -> None:
    with pytest.raises(ValueError, match=r"heads must divide|activation must be"):
        from_tensors(random_tensors(), heads=heads, activation=activation, eps=1e-5)


def test_the_room_is_what_places_leave() -> None:
    assert tower().room == PLACES - 1 - 5
