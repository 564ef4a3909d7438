"""The explorer's web page, with Gradio (the extra `web`): what stands on it, and what its controls ask.

It loads nothing from elsewhere and reports to nobody. Words come in English and Chinese: those of controls are
exchanged by `_Words`, those in HTML are all there, and the style sheet shows one language.
"""

from __future__ import annotations

import base64
import functools
import html
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from gan_mnist import imaging
from gan_mnist.errors import UserError
from gan_mnist.explorer import BATCH, STEPS, Explorer

LANGUAGES = ("English", "中文")
TRUNCATIONS = [("∞", 0.0), ("2", 2.0), ("1.5", 1.5), ("1", 1.0), ("0.7", 0.7), ("0.5", 0.5), ("0.3", 0.3)]
LARGEST_UPLOAD = "20mb"
LARGEST_SEED = 2**32 - 1
SIDE = 280
"""Pixels of a picture on the page, about; it is enlarged by a whole number."""
STRIP = 11
"""Pictures of an interpolation that are shown beside one another."""

Text = tuple[str, str]
"""The same in English and in Chinese."""
Pins = list[np.ndarray | None]
"""The codes pinned as A, B and C."""


FIRST_SEED = 2323
DIRECTIONS_HINT = (
    "Each slider moves z along a direction of its own: those in which G's picture changes most on average, the "
    "strongest first. The rest of z comes from the seed.",
    "每个滑块使 z 沿各自的方向移动：平均而言，G 的图像沿这些方向变化最大，最强的在前。z 的其余部分由种子决定。",
)
SPHERE_HINT = (
    "z turns from A to B on a great circle: normal codes lie near a sphere, and a straight line would leave it.",
    "z 沿大圆从 A 转到 B：正态分布的潜码位于一个球面附近，走直线会离开球面。",
)
LINE_HINT = ("z goes from A to B in a straight line.", "z 沿直线从 A 走到 B。")
ANALOGY_HINT = (
    "Arithmetic with codes, not with pixels: what A has and B lacks is added to C. The result is brought back to where "
    "codes usually lie.",
    "运算的对象是潜码而不是像素：把 A 有而 B 没有的加到 C 上，再把结果带回潜码通常所在之处。",
)
MODES_HINT = (
    f"The same {BATCH} codes in both modes, yours at the top left. In evaluation mode a picture depends on its own "
    "code alone. In training mode BatchNorm takes the mean and variance of all: other company changes your picture.",
    f"两种模式下同样的 {BATCH} 个潜码，左上角是当前的。评估模式下，图像只取决于自己的潜码；训练模式下，BatchNorm "
    "用这一批的均值和方差：换一批同伴，图像就会变。",
)
JUDGE_HINT = (
    "Draw something, or choose a picture: D says how probable it is that it is real. D knows nothing but its training "
    "data and G's pictures; about other things it says little.",
    "画点什么，或选一张图像：D 给出它是真图的概率。D 只见过训练数据和 G 的图像，对其他图像的判断意义不大。",
)
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last"}
"""Of an event that follows a finger: no waiting in Gradio's queue, and of several moves the last one counts."""


CHOOSE_LANGUAGE = """(chosen) => {
  document.documentElement.dataset.lang = chosen === "中文" ? "zh" : "en";
  return [chosen];
}"""
FIRST_LANGUAGE = """() => {
  const chinese = navigator.language.startsWith("zh");
  document.documentElement.dataset.lang = chinese ? "zh" : "en";
  return [chinese ? "中文" : "English"];
}"""


class _Words:
    """What controls say in either language."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, str, Text]] = []

    def give(self, component: Any, *text: str) -> Any:
        """Give a component its words, English and Chinese: a button's are its value, all others' their label."""
        key = "value" if isinstance(component, gr.Button) else "label"
        english, chinese = text
        setattr(component, key, english)
        self.entries.append((component, key, (english, chinese)))
        return component

    def said(self, language: str) -> list[Any]:
        """What changes about each component when this language is chosen."""
        return [gr.update(**{key: text[LANGUAGES.index(language)]}) for _, key, text in self.entries]


def _answered(answer: Callable[..., str]) -> Callable[..., str]:
    """The same function with a `UserError` as a line on the page."""

    @functools.wraps(answer)
    def safe(*arguments: Any) -> str:
        try:
            return answer(*arguments)
        except UserError as error:
            return f'<p class="trouble">{html.escape(" ".join(str(error).split()))}</p>'

    return safe


class _Answers:
    """What the page's controls get for an answer: HTML."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer

    def epochs(self) -> Any:
        """How far the slider of epochs reaches now: the run may still be training."""
        saved = self.explorer.epochs
        return gr.update(minimum=saved[0], maximum=max(saved[-1], saved[0] + 1))

    def start(self, epoch: int, label: int, truncation: float, seed: float | None) -> list[Any]:
        """Where the sliders stand for the code of a seed, and its picture."""
        code = self.explorer.codes(1, seed=_seed(seed), truncation=truncation or None)[0]
        coordinates = [
            round(float(value), 2) for value in np.clip(self.explorer.coordinates(code), *self.explorer.span)
        ]
        return [*coordinates, self.picture(epoch, label, truncation, seed, *coordinates)]

    def random(self, epoch: int, label: int, truncation: float) -> list[Any]:
        """Another seed, and what `start` says of it."""
        seed = secrets.randbelow(1_000_000)
        return [seed, *self.start(epoch, label, truncation, seed)]

    @_answered
    def picture(self, epoch: int, label: int, truncation: float, seed: float | None, *coordinates: float) -> str:
        """The picture where the sliders stand."""
        image = self._image(epoch, label, truncation, seed, *coordinates)
        return _figure(image, name=f"{self.explorer.name}_epoch{epoch}_seed{_seed(seed)}")

    def pin(
        self, place: int, pins: Pins, share: float, epoch: int, label: int, truncation: float, *where: float
    ) -> list[Any]:
        """The pins, with the code of where the seed and the sliders stand at a place, and their mixtures."""
        pins = [*pins[:place], self._code(truncation, *where), *pins[place + 1 :]]
        return [pins, *self.mixtures(pins, share, epoch, label)]

    def mixtures(self, pins: Pins, share: float, epoch: int, label: int) -> list[str]:
        """All that is made of the pinned codes."""
        return [
            self.pinned(pins, epoch, label),
            self.between(pins, share, epoch, label),
            self.analogy(pins, epoch, label),
        ]

    @_answered
    def pinned(self, pins: Pins, epoch: int, label: int) -> str:
        """The pinned pictures."""
        codes = {name: code for name, code in zip("ABC", pins) if code is not None}
        if not codes:
            return ""
        images = self.explorer.draw(np.stack(list(codes.values())), epoch=epoch, label=label)
        return _row(*(_figure(image, side=84, caption=(name, name)) for name, image in zip(codes, images)))

    @_answered
    def between(self, pins: Pins, share: float, epoch: int, label: int) -> str:
        """A point on the way from A to B, and the way."""
        start, end, _ = pins
        if start is None or end is None:
            return _text("Pin two pictures above, as A and B.", "请先在上方把两张图像固定为 A 和 B。")
        stops = np.linspace(0, STEPS, STRIP).round().astype(int)
        images = self.explorer.draw(self.explorer.between(start, end)[[int(share), *stops]], epoch=epoch, label=label)
        strip = imaging.grid(images[1:], rows=1, columns=STRIP, scale=max(1, 84 // images.shape[1]))
        return _row(_figure(images[0], name="between"), _figure(strip, name="strip"))

    @_answered
    def analogy(self, pins: Pins, epoch: int, label: int) -> str:
        """A - B + C."""
        a, b, c = pins
        if a is None or b is None or c is None:
            return _text("Pin three pictures above, as A, B and C.", "请先在上方把三张图像固定为 A、B 和 C。")
        codes = np.stack([a, b, c, self.explorer.analogy(a, b, c)])
        images = self.explorer.draw(codes, epoch=epoch, label=label)
        figures = [_figure(image, side=140, caption=(name, name)) for image, name in zip(images, "ABC")]
        result = _figure(images[3], side=140, name="analogy")
        parts = [figures[0], _sign("−"), figures[1], _sign("+"), figures[2], _sign("="), result]
        return f'<div class="equation">{_row(*parts)}</div>'

    @_answered
    def modes(
        self, company: float | None, epoch: int, label: int, truncation: float, seed: float | None, *coordinates: float
    ) -> str:
        """The same codes in both modes; the first is the one where the sliders stand."""
        others = self.explorer.codes(BATCH - 1, seed=_seed(company), truncation=truncation or None)
        codes = np.concatenate([self._code(truncation, seed, *coordinates)[None], others])
        alone = self.explorer.draw(codes, epoch=epoch, label=label)
        together = self.explorer.draw_together(codes, epoch=epoch, label=label)
        return _row(
            _figure(_sheet(alone), caption=("evaluation mode", "评估模式")),
            _figure(_sheet(together), caption=("training mode", "训练模式")),
        )

    @_answered
    def upload(self, path: str | None, invert: bool, epoch: int) -> str:
        """D's opinion of a file."""
        if path is None:
            return ""
        try:
            image = self.explorer.read(Path(path), invert=invert)
        except UserError as error:
            raise UserError(str(error).replace(path, Path(path).name)) from None
        return self._judged(image, epoch)

    def drawing(self, epoch: int, event: gr.EventData) -> str:
        """D's opinion of what was drawn, which comes as a data: URL."""
        return self.drawn(epoch, str(getattr(event, "picture", "")))

    @_answered
    def drawn(self, epoch: int, source: str) -> str:
        """D's opinion of a picture in a data: URL."""
        try:
            content = base64.b64decode(source.partition(",")[2])
        except ValueError:
            content = b""
        return self._judged(self.explorer.decode(content), epoch)

    @_answered
    def own(self, epoch: int, label: int, truncation: float, seed: float | None, *coordinates: float) -> str:
        """D's opinion of G's picture."""
        return self._judged(self._image(epoch, label, truncation, seed, *coordinates), epoch, label)

    def _judged(self, image: np.ndarray, epoch: int, label: int | None = None) -> str:
        probability, label = self.explorer.score(image, epoch=epoch, label=label)
        of_class = ("", "") if label is None else (f", as class {label}", f"（作为类别 {label}）")
        text = _text(
            f"is how probable D of epoch {epoch} finds it to be real{of_class[0]}",
            f"第 {epoch} 轮的 D 认为它是真图的概率{of_class[1]}",
        )
        seen = _figure(image, side=140, caption=("what D sees", "D 看到的图像"))
        return _row(seen, f'<div><div class="probability">{probability:.4f}</div>{text}</div>')

    def _code(self, truncation: float, seed: float | None, *coordinates: float) -> np.ndarray:
        code = self.explorer.codes(1, seed=_seed(seed), truncation=truncation or None)[0]
        return self.explorer.moved(code, coordinates)

    def _image(self, epoch: int, label: int, truncation: float, seed: float | None, *coordinates: float) -> np.ndarray:
        return self.explorer.draw(self._code(truncation, seed, *coordinates)[None], epoch=epoch, label=label)[0]


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _seed(value: float | None) -> int:
    """A field's number as a seed; an empty field counts as 0."""
    return int(min(max(value or 0, 0), LARGEST_SEED))


def _sheet(images: np.ndarray) -> np.ndarray:
    side = int(len(images) ** 0.5)
    return imaging.grid(images, rows=side, columns=side, scale=max(1, 64 // images.shape[1]))


def _figure(image: np.ndarray, *, side: int = SIDE, name: str = "", caption: Text | None = None) -> str:
    """A uint8 picture as HTML.

    Args:
        image: small ones are enlarged by a whole number.
        side: to how many pixels, about.
        name: of the file as which it can be saved, without its suffix.
        caption: what it shows.
    """
    height, width = image.shape[:2]
    scale = max(1, round(side / max(height, width)))
    source = _png(image)
    lines = [_both(*caption)] if caption else []
    if name:
        sizes = {(width, height): source}
        if scale > 1:
            sizes[scale * width, scale * height] = _png(image.repeat(scale, axis=0).repeat(scale, axis=1))
        links = [f'<a download="{html.escape(name)}.png" href="{data}">{w}×{h}</a>' for (w, h), data in sizes.items()]
        lines.append(f"{_both('save PNG', '保存 PNG')} {' · '.join(links)}")
    said = f"<figcaption>{'<br>'.join(lines)}</figcaption>" if lines else ""
    picture = f'<img alt="" width="{scale * width}" height="{scale * height}" src="{source}">'
    return f'<figure class="picture">{picture}{said}</figure>'


def _png(image: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(imaging.encode_png(image)).decode('ascii')}"


def _row(*parts: str) -> str:
    return f'<div class="pictures">{"".join(parts)}</div>'


def _sign(sign: str) -> str:
    return f'<span class="sign">{sign}</span>'


def _both(english: str, chinese: str) -> str:
    return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh-CN">{chinese}</span>'


def _text(english: str, chinese: str) -> str:
    return f"<p>{_both(english, chinese)}</p>"


def build(explorer: Explorer) -> gr.Blocks:
    """The page for one run."""
    answers, words = _Answers(explorer), _Words()
    give = words.give
    epochs, (low, high) = explorer.epochs, explorer.span
    conditional = explorer.classes > 0
    classes = [(str(y), y) for y in range(max(1, explorer.classes))]
    normal, grey = explorer.spec.latent == "normal", explorer.spec.image_shape[0] == 1
    first = answers.start(epochs[-1], 0, 0.0, FIRST_SEED)
    seeds = {"precision": 0, "minimum": 0, "maximum": LARGEST_SEED}

    with gr.Blocks(title=f"{explorer.name} - gan_mnist", analytics_enabled=False) as page:
        with gr.Row(elem_id="head"):
            gr.HTML(f"<h1>{html.escape(explorer.name)}</h1>")
            language = gr.Radio(LANGUAGES, value=LANGUAGES[0], show_label=False, container=False, elem_id="language")
        with gr.Row(elem_id="stage"):
            with gr.Column(scale=2, min_width=300, elem_id="shown"):
                shown = gr.HTML(first[-1], elem_id="picture")
                with gr.Row():
                    pin_buttons = [
                        give(
                            gr.Button(elem_id=f"pin-{name}", min_width=80, size="md"),
                            f"Pin as {name}",
                            f"固定为 {name}",
                        )
                        for name in "ABC"
                    ]
                pins = gr.State([None, None, None])
                pinned = gr.HTML(elem_id="pinned")
            with gr.Column(scale=3, min_width=300):
                reach = (epochs[0], max(epochs[-1], epochs[0] + 1))
                epoch = give(gr.Slider(*reach, epochs[-1], step=1, precision=0, elem_id="epoch"), "epoch", "轮次")
                with gr.Row(visible=conditional):
                    label = give(
                        gr.Dropdown(classes, value=0, elem_id="class"), "class y of all pictures", "所有图像的类别 y"
                    )
                    truncation = give(gr.Dropdown(TRUNCATIONS, value=0.0, visible=normal), "truncation", "截断")
                with gr.Row(equal_height=True):
                    seed = give(gr.Number(FIRST_SEED, elem_id="seed", scale=2, **seeds), "seed of z", "z 的种子")
                    random = give(gr.Button(variant="primary", elem_id="random"), "Random", "随机")
                gr.HTML(_text(*DIRECTIONS_HINT))
                with gr.Row():
                    sliders = [
                        give(
                            gr.Slider(low, high, value, step=0.01, min_width=240), f"direction {place}", f"方向 {place}"
                        )
                        for place, value in enumerate(first[:-1], 1)
                    ]
        with give(gr.Tab(), "A → B", "A → B"):
            gr.HTML(_text(*(SPHERE_HINT if normal else LINE_HINT)))
            share = gr.Slider(0, STEPS, STEPS // 2, step=1, precision=0, elem_id="share")
            give(share, "% of the way", "路程的 %")
            way = gr.HTML(answers.between([None] * 3, 0, 0, 0), elem_id="way")
        with give(gr.Tab(), "A − B + C", "A − B + C"):
            gr.HTML(_text(*ANALOGY_HINT))
            analogy = gr.HTML(answers.analogy([None] * 3, 0, 0), elem_id="analogy")
        with give(gr.Tab(), "Modes", "两种模式") as modes_tab:
            gr.HTML(_text(*MODES_HINT))
            company = give(gr.Number(1, step=1, elem_id="company", **seeds), "seed of the company", "同伴的种子")
            modes = gr.HTML(elem_id="modes")
        with give(gr.Tab(), "Ask D", "询问 D"):
            gr.HTML(_text(*JUDGE_HINT))
            with gr.Row():
                with gr.Column(min_width=300):
                    paper, ink = ("black", "white") if grey else ("white", "black")
                    pad = gr.HTML(
                        html_template=_template("explorer_pad.html"),
                        js_on_load=_template("explorer_pad.js"),
                        paper=paper,
                        ink=ink,
                        elem_id="pad",
                    )
                with gr.Column(min_width=300):
                    file = give(gr.File(elem_id="file", height=130), "a picture", "一张图像")
                    invert = give(gr.Checkbox(False), "dark ink on light paper: swap", "浅底深色：反相")
                    mine = give(gr.Button(elem_id="own"), "Ask about G's picture above", "询问上方 G 的图像")
                    opinion = gr.HTML(elem_id="opinion")

        place = [epoch, label, truncation, seed, *sliders]

        def respond(triggers: list[Any], answer: Callable[..., Any], asked: list[Any], told: Any) -> Any:
            """At these events, answer about the components `asked` in those `told`; also over HTTP, by its name."""
            return gr.on(triggers, answer, asked, told, api_name=answer.__name__, **AT_ONCE)

        respond([page.load], answers.epochs, [], epoch)
        slid, released = [slider.input for slider in sliders], [slider.release for slider in (epoch, *sliders)]
        respond([epoch.input, label.input, *slid], answers.picture, place, shown)
        started = respond([seed.input, truncation.input], answers.start, place[:4], [*sliders, shown])
        drawn = respond([random.click], answers.random, place[:3], [seed, *sliders, shown])
        asked = [company, *place]
        respond([modes_tab.select, company.input, label.input, *released], answers.modes, asked, modes)
        for event in (started, drawn):
            event.then(answers.modes, asked, modes, api_visibility="private", **AT_ONCE)
        mixed, mixtures = [pins, share, epoch, label], [pinned, way, analogy]
        respond([epoch.release, label.input], answers.mixtures, mixed, mixtures)
        respond([share.input], answers.between, mixed, way)
        for number, button in enumerate(pin_buttons):
            pin = functools.partial(answers.pin, number)
            button.click(pin, [*mixed, *place[2:]], [pins, *mixtures], api_name=f"pin_{'abc'[number]}", **AT_ONCE)
        respond([file.change, invert.input], answers.upload, [file, invert, epoch], opinion)
        respond([mine.click], answers.own, place, opinion)
        respond([pad.input], answers.drawing, [epoch], opinion)

        spoken = [component for component, _, _ in words.entries]
        language.input(words.said, language, spoken, js=CHOOSE_LANGUAGE, api_name="language", **AT_ONCE)
        page.load(
            lambda chosen: [chosen, *words.said(chosen)],
            language,
            [language, *spoken],
            js=FIRST_LANGUAGE,
            api_visibility="private",
            **AT_ONCE,
        )
    return page


def serve(explorer: Explorer, *, host: str, port: int, wait: Callable[[], None]) -> None:
    """Serve the page until `wait` returns."""
    with tempfile.TemporaryDirectory(prefix="gan_mnist-uploads-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = build(explorer)
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=LARGEST_UPLOAD,
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=gr.themes.Default(),
            css=_template("explorer.css"),
        )
        print(f"{page.local_url}   (Ctrl-C ends it)")
        wait()
        page.close(verbose=False)
