// Sorts and filters the tables of the index. Without it every row is shown, in the order of the scripts.
"use strict";

(() => {
  const collator = new Intl.Collator("en", { numeric: true });

  for (const form of document.querySelectorAll("form.controls")) {
    const table = document.getElementById(form.dataset.table);
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const chosen = (name) => (form.elements[name] ? form.elements[name].value : "");

    // A row stays if it holds every word, and has the verdict on the data that was asked for ("none": was not tried).
    function keeps(row) {
      const words = chosen("words").toLowerCase().split(/\s+/);
      if (!words.every((word) => texts.get(row).includes(word))) return false;
      const verdict = chosen("verdict");
      const scale = chosen("scale");
      if (!verdict && !scale) return true;
      const cells = [...row.querySelectorAll("[data-verdicts]")].filter((cell) => !scale || cell.dataset.scale === scale);
      const found = cells.flatMap((cell) => cell.dataset.verdicts.split("|").filter(Boolean));
      if (verdict === "none") return found.length === 0;
      return verdict ? found.includes(verdict) : found.length > 0;
    }

    function filter() {
      for (const row of rows) row.hidden = !keeps(row);
      const shown = rows.filter((row) => !row.hidden).length;
      form.querySelector("output").textContent = shown + " of " + rows.length + " shown";
    }

    function sort(header) {
      const up = header.getAttribute("aria-sort") !== "ascending";
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[header.cellIndex].dataset.sort;
      const sorted = [...rows].sort((a, b) => (up ? 1 : -1) * collator.compare(key(a), key(b)));
      body.append(...sorted);
    }

    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(header));
    }
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter)); // the fields are empty only after the event
    form.hidden = false;
    filter();
  }
})();
