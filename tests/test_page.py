"""The page of a run: opens offline, shows what the files say, in both languages, whatever is missing."""

import base64
import dataclasses
import io
import json
import math
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from test_report import lines, make_run

from gan_mnist import files, imaging, page, report, scoreboard
from gan_mnist.config import Config
from gan_mnist.errors import UserError

VOID = {"meta", "img", "input", "link", "br", "hr"}
URI = re.compile(r"data:image/(png|webp);base64,([A-Za-z0-9+/=]+)")


class Node(NamedTuple):
    tag: str
    attributes: dict[str, str | None]
    text: str


class Page(HTMLParser):
    """A page taken apart: its elements with their own text, refusing tags that are not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.open: list[int] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert not self.open, "a tag is not closed"
        (data,) = (node.text for node in self.nodes if node.attributes.get("id") == "data")
        self.data: dict[str, Any] = json.loads(data)
        self.texts = [node.text for node in self.nodes]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append(Node(tag, dict(attrs), ""))
        if tag not in VOID:
            self.open.append(len(self.nodes) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.nodes[self.open.pop()].tag == tag, f"</{tag}>"

    def handle_data(self, data: str) -> None:
        if self.open:
            node = self.nodes[self.open[-1]]
            self.nodes[self.open[-1]] = node._replace(text=node.text + data)

    def has(self, identifier: str) -> bool:
        return any(node.attributes.get("id") == identifier for node in self.nodes)

    def text_of(self, identifier: str) -> str:
        """Everything in the section of this id."""
        (part,) = re.findall(rf'<section id="{identifier}">(.*?)</section>', self.source, re.DOTALL)
        return part


def evaluation(epoch: int, fid: float) -> scoreboard.Entry:
    scores: dict[str, Any] = {
        name: {"value": 0.5, "standard_error": 0.01, "real": 0.75} for name in scoreboard.MEASURES
    }
    scores["fid"] = {"value": fid, "standard_error": None, "real": 1.68}
    digits = {"samples": [0.1, 0.3, *[0.075] * 8], "real": [0.1] * 10}
    protocol = {"samples": 10_000, "seed": 1, "mode": "eval"}
    keys = {"checkpoint": f"Generator{epoch}.ckpt", "epoch": epoch, "files": {}, "protocol": protocol}
    return {**keys, "scores": scores, "digits": digits}


def whole_run(folder: Path) -> Path:
    """A run with all that can lie in it."""
    run = make_run(folder, epochs=3)
    files.write_text(run / "config.yaml", Config(name="some_run").to_yaml().replace("epochs: 200", "epochs: 3"))
    scored = [line | ({"fid": 30.0 - line["epoch"]} if line["step"] == 3 else {}) for line in lines(3)]
    files.write_text(run / "metrics.jsonl", "".join(json.dumps(line | {"epoch_s": 9.5}) + "\n" for line in scored))
    record = {"status": "finished", "steps_per_epoch": 4, "device": "CPU", "packages": {"numpy": "1.26.4"}}
    record |= {"started": "2026-01-02T03:04:05+00:00", "command": ["scripts/train.py", "--config", "<b>.yaml"]}
    files.write_json(run / "run.json", record)
    scoreboard.write(run / "evaluation.json", [evaluation(1, 25.5), evaluation(2, 12.25)])
    for name in ("images/neighbours_2.png", "images/calibration_2.png", "samples/Generator2_seed1_walk5.png"):
        imaging.write_png(run / name, np.full((40, 60, 3), 90, np.uint8))
    return run


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, Page]:
    run = whole_run(tmp_path)
    assert run / "report.html" in report.write(run)
    return run, Page(run / "report.html")


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Page]:
    """Two runs side by side."""
    one, other = whole_run(tmp_path), tmp_path / "other"
    shutil.copytree(one, other)
    config = (one / "config.yaml").read_text().replace("name: some_run", "name: other")
    files.write_text(other / "config.yaml", config.replace("lr: 0.0002", "lr: 0.001", 1))
    files.write_json(other / "run.json", {"status": "interrupted", "steps_per_epoch": 4, "packages": {"numpy": "9"}})
    out = report.compare([one, other])
    assert out == tmp_path / "report_some_run_vs_other.html"
    return one, Page(out)


def images(source: str) -> list[Image.Image]:
    found = []
    for kind, content in URI.findall(source):
        picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
        picture.load()
        assert picture.format == kind.upper()
        found.append(picture)
    return found


@pytest.mark.parametrize("which", ["whole", "both"])
def test_a_page_needs_nothing_else(which: str, request: pytest.FixtureRequest) -> None:
    _, shown = request.getfixturevalue(which)
    for node in shown.nodes:
        assert node.tag not in ("link", "iframe", "object", "base")
        for name, value in node.attributes.items():
            if name in ("src", "href", "srcset", "action", "poster"):
                assert value and value.startswith("data:image/"), (node.tag, name, value)
    assert not re.findall(
        r"https?:|//[a-z]+\.|@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", URI.sub("", shown.source)
    )
    assert "default-src 'none'" in shown.source
    assert len(images(shown.source)) == shown.source.count("data:image/")


@pytest.mark.parametrize("which", ["whole", "both"])
def test_every_sentence_is_there_in_both_languages(which: str, request: pytest.FixtureRequest) -> None:
    _, shown = request.getfixturevalue(which)
    spans = [node for node in shown.nodes if node.tag == "span" and node.attributes.get("class") in ("en", "zh")]
    assert len(spans) > 20
    for english, chinese in zip(spans[::2], spans[1::2], strict=True):
        assert (english.attributes["class"], chinese.attributes["class"]) == ("en", "zh")
        assert english.text.strip() and chinese.text.strip()
        assert not re.search("[\u4e00-\u9fff]", english.text), english.text
    for node in shown.nodes:  # Headings and paragraphs hold no bare words of one language.
        if node.tag in ("h2", "p", "summary") and "note" not in str(node.attributes.get("class")):
            assert not node.text.strip(), node.text
    titles = [chart[key] for charts in shown.data["charts"].values() for chart in charts for key in ("title",)]
    names = [
        series["name"] for charts in shown.data["charts"].values() for chart in charts for series in chart["series"]
    ]
    for en, zh in [*titles, *names, *shown.data["texts"].values()]:
        assert en and zh and not re.search("[\u4e00-\u9fff]", en)


def test_all_measures_and_states_have_chinese_names() -> None:
    assert page.CHINESE.keys() >= scoreboard.MEASURES.keys()
    assert all(re.search("[\u4e00-\u9fff]", name) for name in page.CHINESE.values())
    assert all(page.title_of(name)[0] == page.title_of(name)[0].strip() for name in scoreboard.MEASURES)


def test_the_curves_are_the_numbers_of_the_metrics(whole: tuple[Path, Page]) -> None:
    run, shown = whole
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses, probabilities = shown.data["charts"]["losses"]
    for chart, keys in ((losses, ("loss_d", "loss_g")), (probabilities, ("d_real", "d_fake"))):
        for index, key in enumerate(keys):
            trace, means = chart["series"][2 * index : 2 * index + 2]
            assert trace["y"] == pytest.approx([line[key] for line in logged])
            assert trace["x"] == pytest.approx([line["epoch"] + line["step"] / 4 for line in logged])
            assert means["y"] == pytest.approx([line[f"mean_{key}"] for line in logged if f"mean_{key}" in line])
            assert means["x"] == [0.5, 1.5, 2.5] and trace["faint"] and not means["faint"]
    assert [line["y"] for line in losses["lines"]] == [1.3863, 0.6931]
    assert {line["y"] for line in probabilities["lines"]} == {0.5}
    (chart,) = (one for one in shown.data["charts"]["quality"] if one["title"][0].startswith("Frechet"))
    assert [(one["x"], one["y"]) for one in chart["series"]] == [([0, 1, 2], [30, 29, 28]), ([1, 2], [25.5, 12.25])]
    assert [line["y"] for line in chart["lines"]] == [1.68]


def test_the_player_holds_every_grid_as_it_is(whole: tuple[Path, Page]) -> None:
    run, shown = whole
    frames = shown.data["frames"]
    assert frames["epochs"] == [0, 1, 2]
    for epoch, uri in zip(frames["epochs"], frames["images"]):
        content = base64.b64decode(uri.partition(",")[2])
        assert content == (run / f"images/epoch_{epoch:04d}.png").read_bytes()


def test_tables_say_what_the_files_say(whole: tuple[Path, Page]) -> None:
    _, shown = whole
    changed = re.findall(
        r'<tr class="changed"><th><code>(.*?)</code></th><td><code>(.*?)</code></td><td><code>(.*?)<', shown.source
    )
    assert set(changed) == {("name", "some_run", "mnist"), ("train.epochs", "3", "200")}
    assert "12.25" in shown.text_of("quality") and "Generator2.ckpt" in shown.text_of("quality")
    assert re.findall(r"<span>([\d.]+)</span>", shown.text_of("digits")) == ["10.0", "30.0", *["7.5"] * 8]
    environment = shown.text_of("environment")
    assert "1.26.4" in environment and "0:01:54" in environment and "2026-01-02 03:04:05" in environment
    assert "&lt;b&gt;.yaml" in environment, "what a user typed is no HTML"
    for part in ("walk", "neighbours", "calibration"):
        assert "data:image/" in shown.text_of(part)


def test_findings_are_shown_in_both_languages(tmp_path: Path) -> None:
    class Finding(NamedTuple):
        name: str
        en: str
        zh: str

    run = report.read_run(make_run(tmp_path))
    source = page.render(
        dataclasses.replace(run, findings=[Finding("collapse", "All alike <1>.\nTry this.", "都一样。\n试试这个。")])
    )
    assert "All alike &lt;1&gt;.\nTry this." in source and "都一样。\n试试这个。" in source
    assert 'id="findings"' not in page.render(run)


def test_an_old_run_shows_what_it_has(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=1, grids=0)
    (run / "run.json").unlink()
    report.write(run)
    shown = Page(run / "report.html")
    assert shown.has("curves") and shown.data["frames"]["epochs"] == []
    for part in ("samples", "quality", "digits", "walk", "neighbours", "calibration", "settings", "findings"):
        assert not shown.has(part), part


def test_a_walk_of_an_earlier_run_is_not_shown(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    record = json.loads((run / "run.json").read_text())
    files.write_json(run / "run.json", record | {"started": "2999-01-01T00:00:00+00:00"})
    assert report.read_run(run).walk is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"\xff\xfe"),
        ("config.yaml", b"just words"),
        ("evaluation.json", b"{"),
        ("metrics.jsonl", b"nonsense\n"),
        ("images/epoch_0001.png", b"\x89PNG\r\n\x1a\n"),
        ("images/neighbours_2.png", b""),
        ("samples/Generator2_seed1_walk5.png", b"GIF89a"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, name: str, damage: bytes) -> None:
    run = whole_run(tmp_path)
    (run / name).write_bytes(damage)
    with pytest.raises(UserError, match=re.escape(name)):
        report.write(run)


@pytest.mark.parametrize("shade", ["grey", "colour"])
def test_two_hundred_epochs_stay_small_and_quick(tmp_path: Path, shade: str) -> None:
    run = make_run(tmp_path, epochs=200, grids=0)
    rng = np.random.default_rng(1)
    rough = (
        rng.integers(0, 256, (33, 33, 3), np.uint8) if shade == "colour" else rng.integers(0, 256, (18, 18), np.uint8)
    )
    smooth = np.asarray(Image.fromarray(rough).resize((662, 662) if shade == "colour" else (292, 292)))
    noise = rng.integers(0, 24, smooth.shape, np.uint8)  # Real grids compress better than this.
    imaging.write_png(run / "images" / "epoch_0000.png", smooth // 2 + noise)
    for epoch in range(1, 200):
        shutil.copy(run / "images" / "epoch_0000.png", run / "images" / f"epoch_{epoch:04d}.png")
    grids = sum(path.stat().st_size for path in (run / "images").iterdir())
    assert grids > page.MOST_GRID_BYTES, "else nothing is shown"
    start = time.process_time()
    source = page.render(report.read_run(run))
    assert time.process_time() - start < 20
    assert len(source.encode()) < 15_000_000
    frames = json.loads(source.partition('id="data">')[2].partition("</script>")[0])["frames"]
    assert frames["epochs"] == list(range(200))
    for picture in images(" ".join(frames["images"][::40])):
        assert picture.width >= 200
        assert abs(np.asarray(picture.convert("RGB")).mean() - (smooth // 2).mean() - 11.5) < 3


def test_of_thousands_of_epochs_every_so_many_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=450)
    frames = page._frames(report.read_run(run).grids)
    assert frames["epochs"][-1] == 449 and len(frames["epochs"]) == 150
    assert set(np.diff(frames["epochs"])) == {3}


def test_thinning_keeps_ends_and_spikes() -> None:
    x = np.arange(100_000) / 470
    y = np.sin(x)
    y[54_321], y[77_777] = 9.0, -9.0
    thin_x, thin_y = page.thin(x.tolist(), y.tolist())
    assert len(thin_x) == len(thin_y) <= page.MOST_POINTS + 2
    assert (thin_x[0], thin_x[-1], max(thin_y), min(thin_y)) == (x[0], x[-1], 9.0, -9.0)
    assert thin_x == sorted(thin_x)
    assert np.abs(np.interp(x, thin_x, thin_y) - np.sin(x))[y == np.sin(x)].mean() < 0.3
    assert page.thin([1.0, 2.0], [3.0, 4.0]) == ([1.0, 2.0], [3.0, 4.0])


@pytest.mark.parametrize(("t", "halve"), [(1.0, False), (1.0, True), (0.9, False)])
def test_the_equilibrium_is_where_d_cannot_do_better(t: float, halve: bool) -> None:
    settings = {"loss.name": "bce", "loss.smoothing": 1 - t, "loss.halve_d": halve}
    d = np.linspace(0.001, 0.999, 9999)  # What D says of an image, real or generated: they are the same there.
    loss_d = -(t * np.log(d) + (1 - t) * np.log(1 - d)) - np.log(1 - d)
    rest = page.equilibrium(settings)
    assert rest["d_real"] == rest["d_fake"] == pytest.approx(d[loss_d.argmin()], abs=1e-3)
    assert rest["loss_d"] == pytest.approx(loss_d.min() / (2 if halve else 1), abs=1e-5)
    assert rest["loss_g"] == pytest.approx(-math.log(d[loss_d.argmin()]), abs=1e-3)
    assert page.equilibrium({"loss.name": "hinge"}) == {}


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    bad = lines(3)
    bad[5]["fid"] = math.nan
    files.write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in bad))
    report.write(run)
    Page(run / "report.html")  # JSON.parse would refuse NaN; Python's would not:
    assert "NaN" not in (run / "report.html").read_text().partition('id="data">')[2].partition("</script>")[0]


def test_side_by_side_tells_what_differs(both: tuple[Path, Page]) -> None:
    _, shown = both
    rows = re.findall(
        r"<tr><th><code>(.*?)</code></th><td><code>(.*?)</code></td><td><code>(.*?)</code>",
        shown.text_of("differences"),
    )
    assert set(rows) == {("name", "some_run", "other"), ("optim_d.lr", "0.0002", "0.001")}
    assert re.findall(r"<th>(\w+)</th><td>(.*?)</td><td>(.*?)</td>", shown.text_of("environment")) == [
        ("device", "CPU", "null"),
        ("numpy", "1.26.4", "9"),
    ]
    assert [chart["title"][0] for chart in shown.data["charts"]["losses"]][:2] == ["D's loss", "G's loss"]
    for chart in shown.data["charts"]["losses"]:
        assert [one["name"][0] for one in chart["series"] if not one["faint"]] == ["some_run", "other"]
    assert shown.text_of("measures").count("12.25") == 2
    assert len(images(shown.text_of("grids"))) == 2


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    out = report.compare(runs, tmp_path / "both.html")
    shown = Page(out)
    assert [one["name"][0] for one in shown.data["charts"]["losses"][0]["series"] if not one["faint"]] == list(
        map(str, runs)
    )
    with pytest.raises(UserError, match="too many"):
        report.compare(runs * 4)


def test_the_command_line(tmp_path: Path, cli_here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = make_run(tmp_path / "a", epochs=1), make_run(tmp_path / "b", epochs=2)
    cli_here("report", "--run", one)
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {one / 'report.html'}"
    cli_here("report", "--run", one, "--run", other, "--out", tmp_path / "x.html")
    assert capsys.readouterr().out == f"wrote {tmp_path / 'x.html'}\n" and (tmp_path / "x.html").exists()
    with pytest.raises(UserError, match="--out"):
        cli_here("report", "--run", one, "--out", tmp_path / "x.html")
    with pytest.raises(UserError, match="no run directory"):
        cli_here("report", "--run", one, "--run", tmp_path / "nothing")
