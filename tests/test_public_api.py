import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

import camera_trap_al


def run_python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_no_torch():
    program = "import sys, camera_trap_al as package; dir(package); print('torch' in sys.modules)"
    assert run_python(program).strip() == "False"


def test_command_line_parses_without_torch():
    program = "import sys, camera_trap_al.cli.commands as cli; cli._parser(); print('torch' in sys.modules)"
    assert run_python(program).strip() == "False"


def test_documented_import_paths_give_the_same_objects():
    from camera_trap_al import run_active_learning as short
    from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
    from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
    from camera_trap_al.labelling import retriever
    from camera_trap_al.main_scripts import run_active_learning
    from camera_trap_al.utils.objects import LabelRetriever

    assert short is run_active_learning
    assert LabelRetriever is retriever.LabelRetriever
    for documented in (ActiveLearningEnvironment, ExtendedImageFolder, LabelRetriever):
        assert isinstance(documented, type)


def test_documented_import_paths_work_each_on_its_own():
    """Each in a package that nobody has imported yet, so that none leans on what another has imported."""
    paths = {
        "camera_trap_al.main_scripts": "run_active_learning",
        "camera_trap_al.deep_learning.data_loader": "ExtendedImageFolder",
        "camera_trap_al.deep_learning.active_learning_manager": "ActiveLearningEnvironment",
        "camera_trap_al.utils.objects": "LabelRetriever",
    }
    program = f"""
import sys
for module, name in {paths}.items():
    exec(f"from {{module}} import {{name}}")
    for imported in [each for each in sys.modules if each.split(".")[0] == "camera_trap_al"]:
        del sys.modules[imported]
    print(name)
"""
    assert run_python(program).split() == list(paths.values())


def test_public_names_are_those_of_all():
    assert dir(camera_trap_al) == sorted(camera_trap_al.__all__)
    assert {"run_active_learning", "RunResult", "__version__"} <= set(camera_trap_al.__all__)
    for name in camera_trap_al.__all__:
        assert getattr(camera_trap_al, name) is not None
    for name in set(camera_trap_al.__all__) - {"__version__"}:
        home = import_module(getattr(camera_trap_al, name).__module__)
        assert getattr(camera_trap_al, name) is getattr(home, name)
        assert name in home.__all__


def test_star_import_gives_the_public_names():
    names = {}
    exec("from camera_trap_al import *", names)
    assert names.keys() - {"__builtins__"} == set(camera_trap_al.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="run_actve_learning"):
        camera_trap_al.run_actve_learning  # noqa: B018
    with pytest.raises(ImportError, match="run_actve_learning"):
        from camera_trap_al import run_actve_learning  # noqa: F401


def test_version_is_that_of_the_installed_package():
    assert camera_trap_al.__version__ == version("camera_trap_al")
