// Conveniences of the report's pages: columns of tables are set by what they hold, a figure opens on a click, and what is
// folded away is printed, but for code.

const KINDS = [
  ["number", /^([−-]?[\d,]+(\.\d+)?( ?%)?|nan|)$/],
  ["name", /^\w{20,}$/],
  ["prose", /^.{48,}$/s],
];

function setColumns(table) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  const columns = Math.max(0, ...rows.map((row) => row.cells.length));
  for (let column = 0; column < columns; column++) {
    const cells = rows.map((row) => row.cells[column]).filter(Boolean);
    const texts = cells.map((cell) => cell.textContent.trim());
    for (const [kind, pattern] of KINDS) {
      const fits = kind === "number" ? texts.every((text) => pattern.test(text)) : texts.some((text) => pattern.test(text));
      if (fits) for (const row of table.rows) row.cells[column]?.classList.add(kind);
    }
    for (const cell of cells) {
      if (!cell.children.length) cell.innerHTML = cell.innerHTML.replaceAll("_", "_<wbr>"); // where a name may break
    }
  }
}

function enlarge(image) {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", image.alt);
  dialog.append(Object.assign(image.cloneNode(), { src: image.currentSrc })); // a narrow page shows a narrow one
  const close = () => dialog.close(); // which gives the focus back to the figure
  dialog.addEventListener("click", close);
  dialog.addEventListener("keydown", close);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function makeFiguresOpen() {
  for (const image of document.querySelectorAll("article figure img")) {
    image.tabIndex = 0;
    image.title = "Enlarge";
    image.addEventListener("click", () => enlarge(image));
    image.addEventListener("keydown", (event) => event.key === "Enter" && enlarge(image));
  }
}

function putCodeBelow() { // what a cell shows stands over its code, and what only prepares it at the end of the page
  const cells = [...document.querySelectorAll("article div.cell:has(> details.hide)")];
  const first = cells.findIndex((cell) => cell.querySelector(":scope > .cell_output"));
  const silent = first > 0 ? cells.slice(0, first) : [];
  for (const cell of cells.slice(Math.max(0, first))) cell.append(cell.querySelector(":scope > details.hide"));
  if (!silent.length) return;
  const part = document.createElement("details");
  part.className = "hide prepares";
  part.append(Object.assign(document.createElement("summary"), { textContent: "Code that prepares this page" }), ...silent);
  document.querySelector("article > section").append(part);
}

document.addEventListener("DOMContentLoaded", () => {
  putCodeBelow();
  document.querySelectorAll("article table").forEach(setColumns);
  makeFiguresOpen();
});

const folded = () => document.querySelectorAll("article details:not([open]):not(.hide)");
let opened = [];
window.addEventListener("beforeprint", () => (opened = [...folded()]).forEach((part) => (part.open = true)));
window.addEventListener("afterprint", () => opened.forEach((part) => (part.open = false)));
