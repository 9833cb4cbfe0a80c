// What the theme leaves out for those who hear a page or use it by keys: names, landmarks, and heads of tables.

function nameLandmarks() {
  const sidebar = document.querySelector(".bd-sidebar-primary");
  sidebar?.setAttribute("role", "region");
  sidebar?.setAttribute("aria-label", "Contents and search");
  for (const element of document.querySelectorAll("summary[aria-label], .search-button-field[aria-label]")) {
    element.removeAttribute("aria-label"); // what is written on it names it, and says more
  }
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
}

function headingOver(element) {
  const heads = [...document.querySelectorAll("article :is(h1, h2, h3, h4, summary)")];
  const over = heads.filter((head) => head.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING);
  const code = (head) => head.matches(".cell summary");
  return over.filter((head) => !code(head)).at(-1)?.textContent.replace("#", "").trim() ?? document.title;
}

function nameTable(table) {
  for (const cell of table.querySelectorAll("th")) {
    if (!cell.textContent.trim()) {
      const empty = document.createElement("td"); // a head that says nothing is none
      for (const { name, value } of cell.attributes) if (name !== "scope") empty.setAttribute(name, value);
      cell.replaceWith(empty);
    } else if (!cell.scope) {
      const [span, group] = cell.closest("thead") ? [cell.colSpan, "col"] : [cell.rowSpan, "row"];
      cell.scope = span > 1 ? `${group}group` : group;
    }
  }
  if (!table.caption) {
    table.createCaption().textContent = headingOver(table);
    table.caption.className = "unseen"; // it stands over the table already
  }
}

const SCROLLING = "pre, .wide, .pst-scrollable-table-container, .cell_output > .output, div.math";

function keepReachable(element, number) { // what can be scrolled can be reached by keys, and says what it is
  const scrolls = element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1;
  if (!scrolls) {
    for (const name of ["tabindex", "role", "aria-label"]) element.removeAttribute(name);
  } else if (element.tabIndex < 0 || !element.role) {
    const kind = element.matches("pre") ? "Text" : element.querySelector("table") ? "Table" : "Part";
    element.tabIndex = 0;
    element.role = "region";
    element.ariaLabel = `${kind} ${number}, ${headingOver(element)}`;
  }
}

document.addEventListener("DOMContentLoaded", () => {
  nameLandmarks();
  document.querySelectorAll("article table").forEach(nameTable);
  const scrolling = [...document.querySelectorAll(SCROLLING)];
  const observer = new ResizeObserver(() => scrolling.forEach((element, place) => keepReachable(element, place + 1)));
  for (const element of scrolling) [element, ...element.children].forEach((one) => observer.observe(one));
});
