"""``dethead losses`` and ``dethead explain``."""

import json

import pytest

from dethead.build import CLASS_SCHEMES
from dethead.cli import main


def said(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_all_losses_are_listed(capsys):
    status, out, _ = said(capsys, "losses", "--json")
    listed = json.loads(out)
    assert status == 0
    assert listed["class"].keys() == CLASS_SCHEMES.keys()
    assert listed.keys() == {"class", "box", "confidence", "embedding"}
    status, out, _ = said(capsys, "losses")
    assert all(name in out for name in CLASS_SCHEMES)


def test_one_loss_is_shown_with_its_settings(capsys):
    _, out, _ = said(capsys, "losses", "focal")
    assert "arXiv 1708.02002" in out
    assert "gamma: required" in out


def test_the_example_of_the_readme(capsys):
    status, out, _ = said(
        capsys, "explain", "softmax_ce", "--logits", "5,4,2", "--target", "0", "--step", "1"
    )
    assert status == 0
    for number in ("0.7054", "0.2595", "0.0351", "-0.3490", "-0.2946", "0.3490 -> 0.2209"):
        assert number in out


@pytest.mark.parametrize(
    ("target", "gradient"),
    [
        ("0,2", [-0.5, 0.5, -0.5]),
        ("0.5,0.0,0.0", [0, 0.5, 0.5]),
        ("background", [0.5, 0.5, 0.5]),
        ("ignore", [0, 0, 0]),
    ],
)
def test_every_form_of_target(capsys, target, gradient):
    _, out, _ = said(capsys, "explain", "sigmoid_bce", "--logits", "0,0,0", "--target", target, "--json")
    assert json.loads(out)[0]["gradient"] == pytest.approx(gradient)


def test_settings_are_those_of_a_config_and_boxes_come_in_rows(capsys):
    arguments = (
        "explain",
        "focal",
        "alpha=0.25",
        "gamma=2",
        "--logits",
        "2,-1;0,0",
        "--target",
        "0;1",
        "--json",
    )
    _, out, _ = said(capsys, *arguments)
    assert len(json.loads(out)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["focl"], "unknown name 'focl'; did you mean 'focal'?"),
        (["focal", "gamma=2"], "class_scheme.alpha: Field required"),
        (["focal", "alpha=0.25", "gama=2"], "unknown key 'gama'; did you mean 'gamma'?"),
        (["focal", "alpha=0.25", "gamma=0.5"], "gamma 0.5 is between 0 and 1"),
        (
            ["softmax_ce", "class_weights={recipe: inverse}"],
            "class_weights: names and recipes need a training",
        ),
        (["sigmoid_bce", "pos_weight={car: 2.0}"], "pos_weight: names and recipes need a training set"),
        (["balanced_softmax"], "class_counts: give the boxes of each class"),
        (["softmax_ce", "--logits", "5,x"], "--logits must be numbers with commas between, got '5,x'"),
        (["softmax_ce", "--target", "7"], "--target 7: labels must be in [0, 3)"),
        (["softmax_ce", "--target", "0,1"], "box 0 carries several labels"),
        (["softmax_ce", "--target", "0;1"], "--target has 2 boxes, --logits 1"),
        (["softmax_ce", "--step", "-1"], "the step must be above 0, got -1.0"),
        (["softmax_ce", "--logits", "nan,1,2"], "logits of row 0 are not finite: nan at class 0"),
        (
            ["ghm", "--logits", "5,4,2;1,2,3", "--target", "background;0"],
            "depends on the other boxes of the batch",
        ),
    ],
)
def test_mistakes_are_one_message(capsys, arguments, message):
    status, _, err = said(capsys, "explain", *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_a_step_goes_down_the_gradient_that_is_printed(capsys):
    # softmax of 5, 4, 2: the gradient of the first is p - 1 = -0.2946, twice that with weight 2
    _, out, _ = said(capsys, "explain", "softmax_ce", "--sample-weight", "2", "--step", "1")
    assert "z - 1 * gradient: 5.5892" in out


def test_the_plot_is_written(capsys, tmp_path):
    path = tmp_path / "plot.png"
    status, out, _ = said(capsys, "explain", "sigmoid_bce", "--plot", str(path))
    assert status == 0
    assert str(path) in out
    assert path.exists()
