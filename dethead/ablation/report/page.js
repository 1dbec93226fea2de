"use strict";
// Tables sort by a click on a heading: numbers from the largest, words from A; a second click turns it over.
for (const button of document.querySelectorAll("button.sort")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

function sortBy(head) {
  const table = head.closest("table");
  const body = table.tBodies[0];
  const column = head.cellIndex;
  const numbers = head.classList.contains("number");
  const first = numbers ? "descending" : "ascending";
  const before = head.getAttribute("aria-sort");
  const order = before === first ? (numbers ? "ascending" : "descending") : first;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], numbers, sign));
  body.append(...rows);
}

function compare(a, b, numbers, sign) {
  if (!numbers) return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  const [x, y] = [a, b].map((cell) => ("key" in cell.dataset ? Number(cell.dataset.key) : NaN));
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // unknown ones last
  return sign * (x - y);
}

// The table as it is sorted now.
function asMarkdown(table) {
  const line = (cells) => `| ${[...cells].map((cell) => clean(cell.textContent)).join(" | ")} |`;
  const heads = [...table.tHead.rows[0].cells];
  const rule = heads.map((head) => (head.classList.contains("number") ? "---:" : "---")).join(" | ");
  return [line(heads), `| ${rule} |`, ...[...table.tBodies[0].rows].map((row) => line(row.cells))].join("\n") + "\n";
}

function clean(text) {
  return text.trim().replace(/\s+/g, " ").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
    .replace(/[\\|*`[\]]/g, "\\$&");
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const text = asMarkdown(button.closest("figure").querySelector("table"));
    const label = button.textContent;
    button.textContent = (await copied(text)) ? "copied" : "copying is not allowed here";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // a page opened from a disk may not have a clipboard
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

// What is folded away is printed, too.
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
