"""What a bundle needs besides itself, fetched by one command."""

import dataclasses

import pytest
from tiny_bundle import CONFIG, WITH_PUBLIC_PARTS, WITH_WHISPER, make_bundle

from emoconv_jax.bundles.format import Roles
from emoconv_jax.cli.main import main


def test_a_bundle_with_its_own_parts_needs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EMOCONV_CACHE", str(tmp_path / "cache"))
    assert main(["fetch", str(make_bundle(tmp_path / "bundle", CONFIG))]) == 0
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("config", "named"),
    [(WITH_PUBLIC_PARTS, "speaker"), (WITH_WHISPER, "whisper")],
    ids=["public parts", "heads"],
)
def test_without_an_index_one_line_names_what_is_missing(
    tmp_path, capfd, monkeypatch, config, named
):
    monkeypatch.setenv("EMOCONV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert main(["fetch", str(make_bundle(tmp_path / "bundle", config))]) == 1
    told = capfd.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("emoconv: ") and named in (told.out + line).lower()


@pytest.mark.slow
@pytest.mark.network
def test_all_that_a_bundle_names_is_there_afterwards(tmp_path, capsys):
    roles = Roles(average_voice="whisper_average_voice", emotion="whisper_emotion")
    config = dataclasses.replace(WITH_PUBLIC_PARTS, roles=roles)
    config = dataclasses.replace(
        config,
        whisper_average_voice=WITH_WHISPER.whisper_average_voice,
        whisper_emotion=WITH_WHISPER.whisper_emotion,
    )
    bundle = str(make_bundle(tmp_path / "bundle", config))
    assert main(["fetch", bundle]) == 0
    capsys.readouterr()
    assert main(["fetch", bundle]) == 0  # from the cache
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["speaker", "vocoder", "whisper"]


def test_a_second_bundle_is_refused(capsys):
    assert main(["fetch", "a", "b"]) == 2
    assert "expected one" in capsys.readouterr().err
