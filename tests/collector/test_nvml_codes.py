import pynvml
import pytest

from enginewatch_collector.backends.nvml_codes import (
    LOST_CODES,
    REMEDIES,
    RETURN_CODES,
    code_name,
    dram_peak_gb_s,
    driver_release,
    thermal_fields_usable,
    visible_gpus,
)

UUIDS = ("GPU-aa000000", "GPU-ab000000", "GPU-cc000000")


def test_every_return_code_of_the_binding_has_its_name():
    in_binding = {
        getattr(pynvml, name): name.removeprefix("NVML_ERROR_").removeprefix("NVML_").lower()
        for name in dir(pynvml)
        if name.startswith("NVML_ERROR_") or name == "NVML_SUCCESS"
    }
    assert in_binding == RETURN_CODES


def test_names_that_the_code_relies_on_exist():
    assert set(RETURN_CODES.values()) >= LOST_CODES | set(REMEDIES)


def test_a_code_that_a_newer_driver_invents_keeps_its_number():
    assert code_name(4711) == "error_4711"


@pytest.mark.parametrize(
    ("version", "release"),
    [("580.159.04", (580, 159)), ("535.183", (535, 183)), ("", (0, 0)), (None, (0, 0)), ("beta", (0, 0))],
)
def test_driver_release(version, release):
    assert driver_release(version) == release


@pytest.mark.parametrize(
    ("driver", "ids", "usable"),
    [
        ("580.159.04", (269, 270), True),
        ("590.44.01", (269, 270), True),
        ("580.65.06", (269, 270), False),
        ("535.183.01", (269, 270), False),
        # nvidia-ml-py 13.580.65
        ("580.159.04", (251, 252), False),
        ("580.65.06", (251, 252), False),
    ],
)
def test_thermal_counters_need_a_driver_and_a_binding_that_agree(driver, ids, usable):
    assert thermal_fields_usable(driver, ids) is usable


def test_dram_peak_of_an_h200():
    assert dram_peak_gb_s(3201, 6016) == pytest.approx(4814.3, abs=0.1)


@pytest.mark.parametrize(
    ("selection", "indices"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("1", (1,)),
        ("2,0", (2, 0)),
        ("2, 0", (2, 0)),
        ("0,-1,2", (0,)),
        ("7,0", ()),
        ("GPU-cc", (2,)),
        ("GPU-a", ()),
        ("GPU-ab000000,0", (1, 0)),
        ("1,1", (1,)),
        ("MIG-aa", (0, 1, 2)),
    ],
)
def test_visible_gpus(selection, indices):
    assert visible_gpus(selection, UUIDS) == indices
