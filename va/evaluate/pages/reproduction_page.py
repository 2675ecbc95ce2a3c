"""The results of `va reproduce` -> one page over its tables, reports and submission, without any script.

Figures stand beside the published ones here; intervals, differences and what differs from the paper are on each table's
own page, to which this one links. `va/reproduce.py` says what the results hold.
"""

from typing import Final
from urllib.parse import quote

from va.evaluate.pages import markup
from va.evaluate.pages.ablation_page import SUBJECTS
from va.evaluate.pages.document import document
from va.evaluate.pages.markup import number, row_head, scrolling_table, text
from va.evaluate.pages.report import NAMES
from va.evaluate.pages.sentences import demo_banner, few_clips
from va.evaluate.pages.table_parts import Item, between, figure_cell

_COLUMNS: Final = (("end", "paper"), ("frames", "abaw"))
"""Form and protocol of each column of ours, in the order of settled 12."""

_HOUR_S: Final = 3600.0


def render(results: Item) -> str:
    """Make the page.

    Args:
        results: What `results.json` holds.

    Returns:
        One HTML document that refers to nothing but the pages that lie beside it.
    """
    corpus = results["corpus"]
    title = f"{corpus['name']}, reproduced"
    facts = {
        "corpus": corpus["name"] + (" (synthetic)" if corpus["synthetic"] else ""),
        "clips": f"{corpus['clips']:,}",
        "tables": ", ".join(str(table["table"]) for table in results["tables"]),
        "seeds": ", ".join(map(str, results["settings"]["seeds"])),
        "created": results["created"],
    }
    parts = {
        "title": text(title),
        "facts": markup.terms(facts.items()),
        "lead": text(f"{_lead(results)} {_few(results['own'])}".rstrip()),
        "tables": "".join(map(_table, results["tables"])),
        "own_said": text(
            "A prediction for every frame, the epoch chosen on dev, training identities held out by each seed. "
            "Scored on val by the ABAW protocol."
        ),
        "own": _own(results["own"]),
        "submission": _submission(results["submission"]),
        "made": markup.terms([*_times(results["seconds"]), ("version", f"va {results['version']}")]),
        "settings": markup.terms((name, str(value)) for name, value in results["settings"].items()),
    }
    return document(
        title=title,
        styles=("report.css", "ablation.css"),
        banner=demo_banner(is_demo=results["demo_encoders"], synthetic=corpus["synthetic"]),
        content=markup.fill(markup.template("reproduction.html"), parts),
        data=None,
        scripts=(),
    )


def _lead(results: Item) -> str:
    chosen = results["settings"]["select_on"]
    said = "The published figures are quoted: nobody but a lab with the data can verify them, and this page does not. "
    if chosen == "val":
        return said + (
            "In the tables the epoch was chosen on val, the split that is reported, as the field does; that flatters "
            "every figure in them. Our own runs below chose on dev."
        )
    return said + "In the tables, as in our own runs, the epoch was chosen on dev; the paper does not say on what."


def _table(table: Item) -> str:
    """A table's section: published, then ours in both forms, and where its page is."""
    heading = f"table{table['table']}"
    lines = []
    for row in table["rows"]:
        published = row["published"]
        quoted = "not in the paper" if published is None else number(published["ccc_mean"], 4)
        mark = ' class="reference"' if row["reference"] else ""
        cells = "".join(
            f'<td class="split">{figure_cell(row["forms"][form][protocol]["ccc_mean"], with_clips=True)}</td>'
            for form, protocol in _COLUMNS
        )
        lines.append(f'<tr{mark}>{row_head(row["name"], row["note"])}<td class="split">{text(quoted)}</td>{cells}</tr>')
    head = (
        '<tr><th scope="col">Row</th><th scope="col" class="split">Published mean CCC</th>'
        '<th scope="col" class="split">As the release scored it (paper protocol)</th>'
        '<th scope="col" class="split">For every frame (ABAW protocol)</th></tr>'
    )
    return (
        f'<section aria-labelledby="{heading}"><h2 id="{heading}">Table {table["table"]}: '
        f"{text(SUBJECTS[table['table']])}</h2>"
        f"<p>Mean CCC over seeds, with its 95% intervals. Valence, arousal, differences and what differs from the "
        f"paper: {_link(table['page'], 'the whole table')}.</p>"
        f"{scrolling_table('ablation', heading, head, lines)}</section>"
    )


def _own(own: list[Item]) -> str:
    lines = []
    for one in own:
        for row in one["rows"]:
            figures = row["abaw"]
            values = "".join(
                f"<td{mark}>{number(figures[name]['value'])}</td>"
                for name, mark in zip(NAMES, (' class="split"', "", ""), strict=True)
            )
            mean = figures["ccc_mean"]
            bounds = None if mean["low"] is None else (mean["low"], mean["high"])
            note = row["note"]
            lines.append(
                f'<tr><th scope="row">{text(row["name"])}<span class="row-note">{text(one["run"])}'
                f"{text(', ' + note if note else '')}</span></th>"
                f'{values}<td>{text(between(bounds))}</td><td class="split">{_link(one["page"], "report")}</td></tr>'
            )
    head = (
        '<tr><th scope="col">Run</th><th scope="col" class="split">Valence</th><th scope="col">Arousal</th>'
        '<th scope="col">Mean</th><th scope="col">95% over clips</th><th scope="col" class="split">Page</th></tr>'
    )
    return scrolling_table("ablation", "own", head, lines)


def _few(own: list[Item]) -> str:
    """Warn where the split has few clips: our own runs were scored on the same ones as the tables."""
    return few_clips(own[0]["rows"][0]["abaw"]["num_clips"]) if own else ""


def _submission(submission: Item | None) -> str:
    if submission is None:
        return '<p class="muted">No submission: give the challenge\'s sample file to --sample.</p>'
    return f"<p>Submission of {text(submission['run'])}: {_link(submission['file'], submission['said'])}.</p>"


def _times(seconds: Item) -> list[tuple[str, str]]:
    """Say how long each step took; one that was finished before took no time."""
    return [
        (name, f"{spent / _HOUR_S:.1f} h" if spent >= _HOUR_S else f"{spent:.0f} s") for name, spent in seconds.items()
    ]


def _link(path: str, words: str) -> str:
    return f'<a href="{text(quote(path))}">{text(words)}</a>'
