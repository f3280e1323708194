"""What whoever listens or sees little needs of a page: names, headings in order, contrast. Each tells wrongs."""

from typing import Any

from tests.browser.chrome import Chrome

NAMES = """
const text = id => document.getElementById(id)?.textContent || "";
const own = e => e.matches("input, select, textarea") ? "" : e.textContent.trim();  // what is in a field is no name
const nameOf = e => (
    e.getAttribute("aria-label") || (e.getAttribute("aria-labelledby") || "").split(" ").map(text).join(" ").trim()
    || [...(e.labels || [])].flatMap(each => [...each.childNodes]).filter(each => each !== e)
        .map(each => each.textContent).join(" ").trim()
    || own(e) || e.querySelector?.("title")?.textContent || e.getAttribute("title") || "").trim();
const controls = "a[href], button, input, select, textarea, summary, [role=region], [role=img], [tabindex='0'],"
    + "dialog, nav";
const wrongs = [...document.querySelectorAll(controls)].filter(each => !nameOf(each))
    .map(each => "no name: " + each.outerHTML.slice(0, 120));
const ids = [...document.querySelectorAll("[id]")].map(each => each.id);
wrongs.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map(id => "twice: #" + id));
for (const each of document.querySelectorAll("[aria-labelledby]"))
    for (const id of each.getAttribute("aria-labelledby").split(" "))
        if (!document.getElementById(id)) wrongs.push("names nothing: " + id);
for (const each of document.querySelectorAll("[tabindex]")) if (each.tabIndex > 0) wrongs.push("tabindex > 0");
for (const each of document.querySelectorAll("table"))
    if (!each.caption || !each.querySelector("th[scope=col]")) wrongs.push("a table without caption or heads");
if (document.documentElement.lang !== "en") wrongs.push("no language");
if (!document.title.trim()) wrongs.push("no title");
if (document.querySelectorAll("main").length !== 1) wrongs.push("not one main");
return wrongs;
"""
HEADINGS = """
return [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
    .filter(each => !each.closest("dialog")).map(each => [Number(each.tagName[1]), each.textContent.trim()]);
"""
# Every element with words of its own, the colour of these, and of what is painted behind them.
COLOURS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
};
const behind = e => {
    const layers = [];
    for (let each = e; each; each = each.parentElement) layers.push(rgb(getComputedStyle(each).backgroundColor));
    let under = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse())
        under = [r, g, b].map((part, at) => part * a + under[at] * (1 - a));
    return under;
};
const found = new Map();
for (const each of document.querySelectorAll("body *")) {
    if (each.closest("svg, [hidden], .unseen, noscript, option") || !each.getClientRects().length) continue;
    if (![...each.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
    const style = getComputedStyle(each);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const pair = [rgb(style.color).slice(0, 3), behind(each), large];
    found.set(JSON.stringify(pair), [...pair, each.className + ": " + each.textContent.trim().slice(0, 40)]);
}
return [...found.values()];
"""


def wrong_names(chrome: Chrome) -> list[str]:
    """Everything that one can press or reach and that has no name, and every name that leads nowhere."""
    return list(chrome.js(NAMES))


def wrong_order(chrome: Chrome) -> list[str]:
    """Headings that leave out a step: h1, h3."""
    headings: list[tuple[int, str]] = [(depth, text) for depth, text in chrome.js(HEADINGS)]
    steps = zip([(0, ""), *headings], headings, strict=False)
    return [f"h{deep} {text!r} after h{above}" for (above, _), (deep, text) in steps if deep > above + 1 or not text]


def wrong_contrasts(chrome: Chrome) -> list[str]:
    """Words that are too faint: less than 4.5 to 1, or 3 to 1 where they are large (WCAG 2.2, 1.4.3)."""
    return [
        f"{ratio:.2f} to 1: {words}"
        for ink, paper, large, words in chrome.js(COLOURS)
        if (ratio := contrast(ink, paper)) < (3.0 if large else 4.5)
    ]


def contrast(one: Any, other: Any) -> float:
    """Contrast of two colours, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Any) -> float:
    parts = [each / 255 for each in colour]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)
