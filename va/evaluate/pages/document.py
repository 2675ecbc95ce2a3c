"""The HTML document around every page that `va` writes: head, security policy, banner, footer, scripts.

Pages are one file that asks the network for nothing. plotly.js is put in as text and run by `templates/chart.js`
after the page has been shown: reading its five million characters takes longer than everything else on a page.
"""

from collections.abc import Sequence

from va.evaluate.pages import markup
from va.evaluate.pages.markup import text
from va.version import __version__


def document(
    *, title: str, styles: Sequence[str], banner: str, content: str, data: object, scripts: Sequence[str]
) -> str:
    """Make a whole page.

    Args:
        title: Unescaped.
        styles: Style sheets in `templates/`, in order.
        banner: What the page warns of before anything else, unescaped; "" for nothing.
        content: Final HTML of the main part.
        data: What the scripts read as JSON from `#data` (`markup.script_json` says what it may hold).
        scripts: Files in `templates/` that draw charts, in order; without any, neither they, nor the data, nor plotly
            are in the page.

    Returns:
        One HTML document that refers to nothing outside itself.
    """
    allowed, elements = [], ""
    if scripts:
        from plotly.offline import get_plotlyjs

        bundle = str(get_plotlyjs())
        script = "".join(markup.template(name) for name in ("chart.js", *scripts))
        allowed = [bundle, script]
        elements = (
            f'<script type="application/json" id="data">{markup.script_json(data)}</script>\n'
            f'<script type="text/plain" id="plotly">{bundle}</script>\n<script>{script}</script>'
        )
    parts = {
        "policy": markup.policy(allowed),
        "title": text(title),
        "style": "".join(map(markup.template, styles)),
        "banner": f'<div class="banner" role="note"><p>{text(banner)}</p></div>' if banner else "",
        "content": content,
        "footer": text(f"Written by va {__version__}. One self-contained file: it asks the network for nothing."),
        "scripts": elements,
    }
    return markup.fill(markup.template("page.html"), parts)
