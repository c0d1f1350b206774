"""What the page of a sweep adds to the common style sheet, and the one script that it runs: a table that sorts."""

STYLE = """
img.figure { display: block; max-width: 100%; height: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; padding: .75rem; margin: .5rem 0; }
.key { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.notice h2 { margin: 0 0 .25rem; }
.notice pre { user-select: all; }
.wide { max-height: 44rem; overflow: auto; border: 1px solid var(--rule); border-radius: 8px; background: var(--card); }
.sorts { font-size: .8125rem; }
.sorts th, .sorts td { padding: .3rem .6rem; white-space: nowrap; }
.sorts thead th { position: sticky; top: 0; background: var(--card); cursor: pointer; user-select: none; z-index: 1; }
.sorts thead th[aria-sort=ascending]::after { content: " ▲"; color: var(--accent); }
.sorts thead th[aria-sort=descending]::after { content: " ▼"; color: var(--accent); }
.sorts tr.picked td { background: #fbeee4; font-weight: 600; }
.mark { text-align: center; font-weight: 700; }
.good { color: #2e7d4f; }
.watch { color: #b7791f; }
.bad { color: #b3362b; }
"""

SCRIPT = """
document.querySelectorAll("table.sorts").forEach(function (table) {
  var heads = Array.from(table.tHead.rows[0].cells), body = table.tBodies[0];
  heads.forEach(function (head, column) {
    head.addEventListener("click", function () {
      var down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      var key = function (row) {
        var cell = row.cells[column], text = cell.dataset.key === undefined ? cell.textContent : cell.dataset.key;
        return text === "" ? null : isNaN(text) ? text : Number(text);
      };
      var compare = function (a, b) {
        if (typeof a === typeof b) { return a < b ? -1 : a > b ? 1 : 0; }
        return typeof a === "number" ? -1 : 1;
      };
      Array.from(body.rows).map(function (row) { return [key(row), row]; }).sort(function (a, b) {
        if (a[0] === null || b[0] === null) { return (a[0] === null) - (b[0] === null); }
        return down ? compare(b[0], a[0]) : compare(a[0], b[0]);
      }).forEach(function (pair) { body.appendChild(pair[1]); });
    });
  });
});
"""
