"""Workbooks as spreadsheet programs write them: cells of every kind, with the styles that make a number a day."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

from extractors.simulator.assets import exports

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"
_STYLES = '<cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/></cellXfs>'


def text(value: str) -> str:
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


def cell(number: str, *, style: int = 0) -> str:
    """A number; with *style* 1 it is a day, with 2 a day and a time."""
    return f'<c s="{style}"><v>{number}</v></c>'


def error(what: str) -> str:
    return f'<c t="e"><v>{what}</v></c>'


def flag(value: int) -> str:
    return f'<c t="b"><v>{value}</v></c>'


def workbook(rows: Sequence[Sequence[str]], *, sheet: str = "") -> bytes:
    """An XLSX of one sheet with *rows* of cells; *sheet*: what stands instead of them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, xml in exports._WORKBOOK.items():
            styled = xml.replace("</Types>", f'<Override PartName="/xl/styles.xml" ContentType="{_TYPE}"/></Types>')
            if name == "xl/_rels/workbook.xml.rels":
                styled = styled.replace(
                    "</Relationships>",
                    f'<Relationship Id="rS" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
                )
            archive.writestr(name, styled)
        archive.writestr("xl/styles.xml", f'<styleSheet xmlns="{_MAIN}">{_STYLES}</styleSheet>')
        body = sheet or "".join(f"<row>{''.join(row)}</row>" for row in rows)
        archive.writestr(
            "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
        )
    return packed.getvalue()
