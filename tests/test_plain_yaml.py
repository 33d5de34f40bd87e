"""Words stay words and numbers numbers, whoever reads them."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mnerkit.plain_yaml import yaml_text

WORDS = st.text("0123456789abcdef", min_size=1, max_size=16) | st.text("+-_.eE0123456789~ynof :#'\"", max_size=8)
VALUES = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.none() | WORDS


@given(st.dictionaries(st.text("abc", min_size=1), VALUES | st.lists(VALUES, max_size=3), max_size=4))
@example({"name": "623520917e368043", "other": ["1e5", "-1_0.5E+3", "1e5x"]})
@example({"lr": 1e-05, "large": 1e20})
def test_what_is_written_is_read_by_pyyaml_and_omegaconf(content: dict[str, object]) -> None:
    text = yaml_text(content, "a comment", "")
    assert text.startswith("# a comment\n#\n")
    assert yaml.safe_load(text) == content
    assert OmegaConf.to_container(OmegaConf.create(text)) == content


def test_comments_alone_stand_above_an_empty_mapping(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text(yaml_text({}, "nothing"))
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "empty.yaml")) == {}
