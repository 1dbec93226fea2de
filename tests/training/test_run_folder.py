"""What a run folder takes in and refuses."""

import pytest
from tiny_runs import load_run, log_lines

from dethead.config import load
from dethead.training.run_folder import RunFolder, RunFolderError


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.create(load_run())
    return made


def test_the_resolved_config_is_saved(folder):
    assert load(folder.config) == load_run()


def test_a_folder_that_holds_a_run_is_refused(folder):
    with pytest.raises(RunFolderError, match=r"run: holds a run already; go on with --resume"):
        folder.check_free(resume=False)


def test_a_run_of_the_same_config_may_be_resumed(folder):
    folder.check_free(resume=True)
    folder.check_same(load_run())


def test_resuming_with_another_config_names_the_keys_that_differ(folder):
    folder.last.touch()
    changed = load_run("training.optimizer.lr=0.5", "seed=3")
    with pytest.raises(RunFolderError, match=r"\(seed: 0 -> 3, training\.optimizer\.lr: 0\.01 -> 0\.5\)"):
        folder.check_same(changed)


def test_without_a_checkpoint_there_is_nothing_that_another_config_could_contradict(folder):
    folder.check_same(load_run("seed=3"))


@pytest.mark.parametrize("before", [True, False])
def test_broken_images_may_be_left_out_from_now_on(folder, before):
    folder.create(load_run(f"data.skip_unreadable={before}".lower()))
    folder.last.touch()
    folder.check_same(load_run(f"data.skip_unreadable={not before}".lower()))


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "run"
    path.touch()
    with pytest.raises(RunFolderError, match=r"run: is a file, not a folder"):
        RunFolder(path).check_free(resume=False)


def test_an_empty_folder_is_free(tmp_path):
    RunFolder(tmp_path).check_free(resume=False)


def test_a_folder_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no run \(no config\.yaml\)"):
        RunFolder.open(tmp_path)


def test_cutting_the_log_drops_later_steps_later_validations_and_a_line_cut_short(folder):
    for line in ({"step": 1}, {"step": 2}, {"step": 2, "val": {}}, {"step": 3}):
        folder.append_log(line)
    with folder.log.open("a") as file:
        file.write('{"step": 4, "tot')
    folder.cut_log(step=2, validated=0)
    assert log_lines(folder.path) == [{"step": 1}, {"step": 2}]


def test_starting_again_forgets_the_log(folder):
    folder.append_log({"step": 1})
    folder.create(load_run())
    assert not log_lines(folder.path)
