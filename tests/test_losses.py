"""Losses against per-pixel oracles, worked numbers and their invariances."""

import math

import numpy as np
import plain_losses
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from atrc_exp.losses import build_losses, resized
from atrc_exp.tasks import build_tasks
from atrc_exp.tasks.classification import TriangularCode

NAMES = ("semseg", "human_parts", "sal", "depth", "normals", "edge")
SHAPE = (3, 4, 5)  # B, H, W
SIZES = ((2, 3), (1, 2))  # of predictions that are resized to it


@pytest.fixture
def tasks():
    return build_tasks(NAMES, num_classes={"semseg": 6}, edge_positive_weight=0.8, edge_max_distance=0.011)


@pytest.fixture
def codebook():
    return F.normalize(torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=1)


@pytest.fixture
def labels(tasks):
    """Random labels of which about a third is invalid, differently many in each image."""
    generator = torch.Generator().manual_seed(2)
    threshold = torch.tensor([0.1, 0.3, 0.6]).view(3, 1, 1)
    labels = {}
    for task in tasks:
        invalid = torch.rand(SHAPE, generator=generator) < threshold
        if task.kind.class_map:
            values = torch.randint(task.regions, SHAPE, generator=generator)
            labels[task.name] = values.masked_fill(invalid, 255)
        else:
            shape = (SHAPE[0], task.channels, *SHAPE[1:])
            if task.label == "depth":
                values = 0.5 + 11 * torch.rand(shape, generator=generator, dtype=torch.float64)
            else:
                values = F.normalize(torch.randn(shape, generator=generator, dtype=torch.float64), dim=1)
            labels[task.name] = values.masked_fill(invalid.unsqueeze(1), 0)
    return labels


@pytest.fixture
def outputs(tasks):
    generator = torch.Generator().manual_seed(3)

    def draw(channels):
        values = 2 * torch.randn(SHAPE[0], channels, *SHAPE[1:], generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    return {t.name: draw(t.channels) for t in tasks}, {t.name: draw(t.regions) for t in tasks}


def pixels(prediction, label, valid):
    """(prediction vector, label) of every valid pixel."""
    prediction, label = prediction.detach().numpy(), label.numpy()
    for b, y, x in np.argwhere(valid):
        yield prediction[b, :, y, x], label[b, ..., y, x]


def oracle_cross_entropy(logits, label, class_weights=None):
    terms = [
        (1 if class_weights is None else class_weights[int(y)]) * (np.log(np.exp(x).sum()) - x[int(y)])
        for x, y in pixels(logits, label, (label != 255).numpy())
    ]
    return sum(terms) / len(terms)


def balance(label):
    negatives = (label == 0).sum().item() / (label != 255).sum().item()
    return (1 - negatives, negatives)


def oracle_bins(depth):
    bins = np.clip(np.floor(40 * np.log(np.maximum(depth, 1e-9) / 0.7) / math.log(10 / 0.7)), 0, 39)
    return torch.from_numpy(np.where(depth > 0, bins, 255)[:, 0].astype(np.int64))


def oracle_codewords(normals, codebook):
    nearest = ((normals.unsqueeze(1) - codebook.view(1, 40, 3, 1, 1)) ** 2).sum(2).argmin(1)
    return nearest.where((normals != 0).any(1), 255)


def test_every_term_equals_its_definition(tasks, codebook, labels, outputs):
    final, aux = outputs
    terms = build_losses(tasks, NAMES, codebook)(final, aux, labels)

    expected = {}
    for name in ("semseg", "human_parts"):
        expected[name] = oracle_cross_entropy(final[name], labels[name])
        expected[f"{name}_aux"] = oracle_cross_entropy(aux[name], labels[name])
    expected["sal"] = oracle_cross_entropy(final["sal"], labels["sal"], balance(labels["sal"]))
    expected["sal_aux"] = oracle_cross_entropy(aux["sal"], labels["sal"], balance(labels["sal"]))
    expected["edge_aux"] = oracle_cross_entropy(aux["edge"], labels["edge"], (1 - 0.8, 0.8))

    def binary(logit, y):
        p = 1 / (1 + math.exp(-logit))
        return -(0.8 * y * math.log(p) + 0.2 * (1 - y) * math.log(1 - p))

    valid = (labels["edge"] != 255).numpy()
    expected["edge"] = np.mean([binary(x[0], int(y)) for x, y in pixels(final["edge"], labels["edge"], valid)])
    valid = (labels["depth"] > 0).numpy()[:, 0]
    expected["depth"] = np.mean([abs(x[0] - d[0]) for x, d in pixels(final["depth"], labels["depth"], valid)])
    expected["depth_aux"] = oracle_cross_entropy(aux["depth"], oracle_bins(labels["depth"].numpy()))
    valid = (labels["normals"] != 0).any(1).numpy()
    differences = [np.abs(x / np.sqrt(x @ x) - n).sum() for x, n in pixels(final["normals"], labels["normals"], valid)]
    expected["normals"] = np.mean(differences)
    expected["normals_aux"] = oracle_cross_entropy(aux["normals"], oracle_codewords(labels["normals"], codebook))

    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=1e-12), name


def test_balanced_cross_entropy_worked_by_hand(tasks):
    """One positive and three negatives at equal logits: log 2 (3/4 + 3 * 1/4) / 4."""
    label = torch.tensor([[[1, 0, 0, 0, 255]]])
    loss = build_losses([task for task in tasks if task.name == "sal"])
    terms = loss({"sal": torch.zeros(1, 2, 1, 5)}, {}, {"sal": label})
    assert terms["sal"].item() == pytest.approx(1.5 * math.log(2) / 4)


@pytest.mark.parametrize("only", [0, 1])
def test_balanced_cross_entropy_of_a_single_class_is_zero(tasks, only):
    loss = build_losses([task for task in tasks if task.name == "sal"])
    terms = loss({"sal": torch.randn(1, 2, 3, 3)}, {}, {"sal": torch.full((1, 3, 3), only)})
    assert terms["sal"].item() == 0


@pytest.mark.parametrize("split", [(1, 1, 1), (2, 1)])
def test_micro_batches_with_total_counts_give_the_whole_batch(tasks, codebook, labels, outputs, split):
    final, aux = outputs
    loss = build_losses(tasks, NAMES, codebook)
    whole = loss(final, aux, labels)
    maps = [*final.values(), *aux.values()]
    whole_gradients = torch.autograd.grad(loss.total(whole), maps)

    def parts(tensors):
        pieces = {name: tensor.split(split) for name, tensor in tensors.items()}
        return [{name: piece[i] for name, piece in pieces.items()} for i in range(len(split))]

    counts = [loss.counts(part) for part in parts(labels)]
    total = {key: sum(count[key] for count in counts) for key in counts[0]}
    summed = [loss(*part, counts=total) for part in zip(parts(final), parts(aux), parts(labels), strict=True)]
    for name, value in whole.items():
        assert sum(terms[name] for terms in summed).item() == pytest.approx(value.item(), abs=1e-12), name
    gradients = torch.autograd.grad(sum(loss.total(terms) for terms in summed), maps)
    for part, expected in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-12)


def test_counts_are_integers_and_name_the_positives_of_balanced_losses_only(tasks, labels):
    counts = build_losses(tasks).counts(labels)
    assert set(counts) == {*NAMES, "sal:positive"}
    assert all(count.dtype == torch.int64 and count.ndim == 0 for count in counts.values())
    assert counts["sal:positive"] == (labels["sal"] == 1).sum()
    assert counts["depth"] == (labels["depth"] > 0).sum()


def unlabelled(labels):
    return {name: torch.full_like(label, 255 if label.ndim == 3 else 0) for name, label in labels.items()}


def test_without_a_valid_pixel_every_term_is_zero_and_keeps_its_graph(tasks, codebook, labels, outputs):
    final, aux = outputs
    loss = build_losses(tasks, NAMES, codebook)
    terms = loss(final, aux, unlabelled(labels))
    assert len(terms) == 12
    assert all(term.item() == 0 for term in terms.values())
    for gradient in torch.autograd.grad(loss.total(terms), [*final.values(), *aux.values()]):
        assert not gradient.any()


@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
def test_predictions_at_unlabelled_pixels_reach_neither_value_nor_gradient(tasks, codebook, labels, outputs, poison):
    loss = build_losses(tasks, NAMES, codebook)
    expected = loss(*outputs, labels)

    def poisoned(maps):
        result = {}
        for name, values in maps.items():
            label = labels[name]
            invalid = label == 255 if label.ndim == 3 else (label == 0).all(1)
            assert invalid.any()
            result[name] = values.detach().masked_fill(invalid.unsqueeze(1), poison).requires_grad_()
        return result

    final, aux = map(poisoned, outputs)
    terms = loss(final, aux, labels)
    for name, value in expected.items():
        assert terms[name].item() == value.item(), name
    loss.total(terms).backward()
    for maps in (final, aux):
        for name, values in maps.items():
            assert values.grad.isfinite().all()
            assert not values.grad[~values.isfinite()].any(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_predictions_are_scored_in_single_precision(tasks, codebook, labels, outputs, dtype):
    final, aux = ({name: values.detach().to(dtype) for name, values in maps.items()} for maps in outputs)
    labels = {name: label.float() if label.is_floating_point() else label for name, label in labels.items()}
    loss = build_losses(tasks, NAMES, codebook)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(final, aux, labels)
    wide_final, wide_aux = ({name: values.float() for name, values in maps.items()} for maps in (final, aux))
    for name, value in loss(wide_final, wide_aux, labels).items():
        assert terms[name].dtype == torch.float32
        assert terms[name].item() == value.item(), name


def test_large_low_precision_values_do_not_overflow(tasks):
    """60 000 m of error on each of 100 pixels: their sum is far outside fp16."""
    loss = build_losses([task for task in tasks if task.name == "depth"])
    prediction = torch.full((1, 1, 10, 10), 60_000.0, dtype=torch.float16)
    terms = loss({"depth": prediction}, {}, {"depth": torch.ones(1, 1, 10, 10)})
    assert terms["depth"].item() == pytest.approx(prediction.float().mean().item() - 1)


def test_normals_ignore_the_length_of_the_prediction(tasks, labels, outputs):
    loss = build_losses([task for task in tasks if task.name == "normals"])
    prediction = outputs[0]["normals"].detach()
    once, thrice = (loss({"normals": scale * prediction}, {}, labels)["normals"].item() for scale in (1, 3))
    assert once == pytest.approx(thrice, abs=1e-12)


def test_a_zero_normal_has_a_usable_gradient(tasks):
    loss = build_losses([task for task in tasks if task.name == "normals"])
    prediction = torch.zeros(1, 3, 8, 8, requires_grad=True)
    normals = torch.zeros(1, 3, 8, 8)
    normals[:, 2] = 1
    term = loss({"normals": prediction}, {}, {"normals": normals})["normals"]
    assert term.item() == 1
    term.backward()
    assert prediction.grad.abs().max() < 1e6


@pytest.mark.parametrize("length, unit", [(3.0, 1.0), (2e-6, 1.0), (1e-6, 1.0), (4e-7, 0.4), (1e-9, 1e-3), (0.0, 0.0)])
def test_the_length_of_a_predicted_normal_is_bounded_below_by_a_millionth(tasks, length, unit):
    """The label is (-1, 0, 0): a prediction of length l along x is 1 + min(l / 1e-6, 1) away, with slope <= 1e6."""
    loss = build_losses([task for task in tasks if task.name == "normals"])
    prediction = torch.tensor([length, 0.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1).requires_grad_()
    label = torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    term = loss({"normals": prediction}, {}, {"normals": label})["normals"]
    term.backward()
    assert term.item() == pytest.approx(1 + unit, rel=1e-9)
    assert prediction.grad.abs().max() <= 1e6 * (1 + 1e-9)


@pytest.mark.parametrize("value", [-1.0, -math.inf, math.inf, math.nan])
def test_depth_that_is_no_distance_has_no_part_in_the_losses(tasks, value):
    loss = build_losses([task for task in tasks if task.name == "depth"], ["depth"])
    prediction, logits = torch.full((1, 1, 1, 2), 3.0, requires_grad=True), torch.zeros(1, 40, 1, 2)
    label = torch.tensor([5.0, value]).view(1, 1, 1, 2)
    terms = loss({"depth": prediction}, {"depth": logits}, {"depth": label})
    terms["depth"].backward()
    assert terms["depth"].item() == 2 and terms["depth_aux"].item() == pytest.approx(math.log(40))
    assert prediction.grad.flatten().tolist() == [-1, 0]


def test_total_gives_final_and_auxiliary_terms_the_task_weight(tasks):
    loss = build_losses(tasks, ["sal"])
    terms = {name: torch.tensor(1.0) for name in (*NAMES, "sal_aux")}
    assert loss.total(terms).item() == 1 + 2 + 5 + 1 + 10 + 50 + 5


def test_auxiliary_terms_exist_only_where_maps_are_given(tasks, codebook, labels, outputs):
    final, aux = outputs
    loss = build_losses(tasks, ["depth"], codebook)
    assert set(loss(final, {"depth": aux["depth"]}, labels)) == {*NAMES, "depth_aux"}
    assert set(loss(final, {}, labels)) == set(NAMES)
    with pytest.raises(ValueError, match="expected: depth"):
        loss(final, {"edge": aux["edge"]}, labels)


@pytest.mark.parametrize("size", [(2, 3), (1, 2), SHAPE[1:]])
def test_predictions_of_any_size_equal_predictions_resized_first(tasks, codebook, labels, size):
    """Values and gradients, with the labels' invalid pixels, against the plain form."""
    generator = torch.Generator().manual_seed(5)

    def draw(channels):
        return torch.randn(3, channels, *size, generator=generator, dtype=torch.float64).requires_grad_()

    final, aux = {t.name: draw(t.channels) for t in tasks}, {t.name: draw(t.regions) for t in tasks}
    maps = [*final.values(), *aux.values()]
    loss = build_losses(tasks, NAMES, codebook)

    def evaluate():
        terms = loss(final, aux, labels)
        return torch.stack(list(terms.values())), torch.autograd.grad(3 * loss.total(terms), maps)

    found, gradients = evaluate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resized, "cross_entropy", plain_losses.cross_entropy)
        expected, wanted = evaluate()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for gradient, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=0, atol=1e-12)


def test_cross_entropy_keeps_no_class_maps_at_label_size():
    """What is saved for the backward pass is one gradient of the logits' own size."""
    logits = torch.randn(2, 40, 4, 5, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        resized.cross_entropy(logits, torch.randint(40, (2, 32, 40)))
    assert saved == [logits.numel()]


def test_a_valid_pixel_that_is_not_finite_shows(tasks):
    """Only what nobody labelled is hidden."""
    loss = build_losses([task for task in tasks if task.name == "semseg"])
    logits = torch.randn(1, 6, 2, 2)
    logits[0, 1, 0, 0] = math.nan
    logits.requires_grad_()
    terms = loss({"semseg": logits}, {}, {"semseg": torch.zeros(1, 2, 2, dtype=torch.long)})
    terms["semseg"].backward()
    assert terms["semseg"].isnan() and logits.grad[0, :, 0, 0].isnan().any()


def test_initial_terms_are_final_losses_of_resized_predictions_with_the_tasks_weight(tasks, codebook, labels, outputs):
    """Values, gradients, and shares of a whole batch, as if every prediction were resized and judged by itself."""
    loss = build_losses(tasks, initial_scales=2)
    counts = {name: count + 7 for name, count in loss.counts(labels).items()}  # of a batch that these are a part of
    small = {
        task.name: [torch.randn(3, task.channels, *size, dtype=torch.float64).requires_grad_() for size in SIZES]
        for task in tasks
    }
    terms = loss(outputs[0], {}, labels, counts, small)
    assert list(loss.weights) == [*NAMES, *(f"{name}_initial{i}" for i in (0, 1) for name in NAMES)]
    assert set(terms) == set(loss.weights)
    expected = dict(loss(outputs[0], {}, labels, counts))
    for i in (0, 1):
        resized = {name: F.interpolate(maps[i], SHAPE[1:], mode="bilinear") for name, maps in small.items()}
        expected |= {f"{name}_initial{i}": term for name, term in loss(resized, {}, labels, counts).items()}
    assert {n: t.item() for n, t in terms.items()} == pytest.approx({n: t.item() for n, t in expected.items()})
    weights = dict(zip(NAMES, (1, 2, 5, 1, 10, 50), strict=True))
    total = sum(weights[name.partition("_initial")[0]] * term for name, term in expected.items())
    assert loss.total(terms).item() == pytest.approx(total.item())
    maps = [x for pair in small.values() for x in pair]
    for found, wanted in zip(
        torch.autograd.grad(loss.total(terms), maps), torch.autograd.grad(total, maps), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_construction_refuses_what_cannot_be_trained(tasks, codebook):
    with pytest.raises(ValueError, match="codebook"):
        build_losses(tasks, ["normals"])
    with pytest.raises(ValueError, match="'floor' is not one of"):
        build_losses(tasks, ["floor"], codebook)


def test_byte_labels_are_accepted(tasks, labels, outputs):
    loss = build_losses([task for task in tasks if task.kind.class_map])
    narrow = {name: label.byte() if label.ndim == 3 else label for name, label in labels.items()}
    for name, value in loss(outputs[0], {}, labels).items():
        assert loss(outputs[0], {}, narrow)[name].item() == value.item()


def test_nothing_waits_for_the_device(tasks, codebook, labels, outputs):
    """Fake tensors have no values to wait for: reading one, or a shape that depends on one, raises."""
    loss = build_losses(tasks, NAMES, codebook)
    with FakeTensorMode() as mode:
        fake = [{name: mode.from_tensor(values) for name, values in maps.items()} for maps in (*outputs, labels)]
        loss.codebook = mode.from_tensor(loss.codebook)
        assert loss.total(loss(*fake)).shape == ()


def as_classifications():
    forms = {"depth": "classification", "normals": "classification"}
    return build_tasks(
        ("depth", "normals"), num_classes={}, edge_positive_weight=0.8, edge_max_distance=0.011, forms=forms
    )


def test_classification_forms_are_cross_entropies_over_bins_and_weighted_codewords(labels, codebook):
    tasks = as_classifications()
    generator = torch.Generator().manual_seed(4)
    logits = {t.name: torch.randn(3, 40, 4, 5, dtype=torch.float64, generator=generator) for t in tasks}
    terms = build_losses(tasks, codebook=codebook)(logits, {}, labels)

    depth, valid = labels["depth"][:, 0], (labels["depth"][:, 0] > 0).numpy()
    bins = [
        min(39, max(0, math.floor(40 * math.log(d / 0.7) / math.log(10 / 0.7))))
        for _, d in pixels(depth[:, None], depth, valid)
    ]
    expected = [
        np.log(np.exp(x).sum()) - x[b] for (x, _), b in zip(pixels(logits["depth"], depth, valid), bins, strict=True)
    ]
    assert terms["depth"].item() == pytest.approx(np.mean(expected), rel=1e-9)

    expected, words = [], codebook.numpy()
    code = TriangularCode(codebook)
    coded = [x.movedim(1, -1).numpy() for x in code.encode(labels["normals"])]
    for b, y, x in np.argwhere((labels["normals"] != 0).any(1).numpy()):
        corners, weights = coded[0][b, y, x], coded[1][b, y, x]
        assert (weights @ words[corners]) @ labels["normals"][b, :, y, x].numpy() > 0
        scores = logits["normals"][b, :, y, x].numpy()
        expected.append(
            sum(w * (np.log(np.exp(scores).sum()) - scores[c]) for c, w in zip(corners, weights, strict=True))
        )
    assert terms["normals"].item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_classification_gradient_is_probability_minus_target_and_0_at_ignored_pixels(labels, codebook):
    tasks = as_classifications()
    logits = {t.name: torch.zeros(3, 40, 4, 5, dtype=torch.float64) for t in tasks}
    invalid = {"depth": labels["depth"][:, 0] <= 0, "normals": (labels["normals"] == 0).all(1)}
    for name, where in invalid.items():
        logits[name].masked_fill_(where.unsqueeze(1), math.nan).requires_grad_()
    spoilt = {**labels, "normals": labels["normals"].masked_fill(invalid["normals"].unsqueeze(1), 0)}
    terms = build_losses(tasks, codebook=codebook)(logits, {}, spoilt)
    (terms["depth"] + terms["normals"]).backward()
    for name, where in invalid.items():
        gradient = logits[name].grad * (~where).sum()
        assert gradient.isfinite().all() and not gradient[where.unsqueeze(1).expand_as(gradient)].any()
        target = 1 / 40 - gradient.movedim(1, -1)[~where]  # (pixels, 40)
        torch.testing.assert_close(target.sum(1), torch.ones(len(target), dtype=torch.float64))
        assert target.min() > -1e-12 and ((target > 1e-9).sum(1) <= (1 if name == "depth" else 3)).all()


def test_classification_forms_without_any_valid_pixel_are_exactly_0_with_gradient(codebook):
    tasks = as_classifications()
    logits = {t.name: torch.randn(2, 40, 3, 3, requires_grad=True) for t in tasks}
    empty = {"depth": torch.zeros(2, 1, 3, 3), "normals": torch.zeros(2, 3, 3, 3)}
    terms = build_losses(tasks, codebook=codebook.float())(logits, {}, empty)
    sum(terms.values()).backward()
    assert all(term.item() == 0 for term in terms.values())
    assert all(not x.grad.any() for x in logits.values())


def test_triangular_coding_needs_a_codebook():
    with pytest.raises(ValueError, match="codebook"):
        build_losses(as_classifications())
