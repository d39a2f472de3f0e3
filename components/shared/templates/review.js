// Accept, correct or reject what is suggested for an image; everything is decided on this page and saved as one CSV.
// It needs figures `.review-item` with data-id, data-label (what it has), data-suggested and data-source, one
// `.review-bar` and one `dialog.review-other` (see review.html). One listener per kind of event serves all figures.
(() => {
  const items = [...document.querySelectorAll(".review-item")];
  const bar = document.querySelector(".review-bar"), dialog = document.querySelector(".review-other");
  if (!items.length) return;
  const columns = bar.dataset.columns.split(","), formula = new RegExp(`^[${bar.dataset.formula}]`);
  const other = dialog.querySelector("input"), wrong = dialog.querySelector("[role=alert]");
  const classes = new Set([...dialog.querySelectorAll("option")].map(option => option.value));
  const decided = new Map(), order = [];  // figure -> row; figures in the order of their decisions, to be undone
  let current = items[0], saved = 0;

  function focus(item) {
    if (!item) return;
    current.tabIndex = -1;
    current = item;
    item.tabIndex = 0;
    item.focus();
    item.scrollIntoView({block: "nearest"});
  }

  const near = step => items[items.indexOf(current) + step];

  // The one in the row above or below that is nearest; rows are as the window's width makes them.
  function vertical(direction) {
    const from = current.getBoundingClientRect(), start = items.indexOf(current);
    for (let at = start + direction, row = null; items[at]; at += direction) {
      const box = items[at].getBoundingClientRect();
      if (Math.abs(box.top - from.top) < 4 && items[at].parentElement === current.parentElement) continue;
      row ??= box.top;
      const next = items[at + direction];
      if (Math.abs(box.left - from.left) < 4 || !next || Math.abs(next.getBoundingClientRect().top - row) >= 4) return items[at];
    }
    return null;
  }

  function show() {
    bar.hidden = false;
    bar.querySelector("output").textContent = `${decided.size} of ${items.length} decided`;
    for (const button of bar.querySelectorAll("button")) button.disabled = !decided.size;
  }

  function mark(item, row) {
    item.classList.toggle("decided", !!row);
    item.querySelector("output").textContent = !row ? "" :
      row.action === "reject" ? row.label ? `stays ${row.label}` : "no label" : `now ${row.label}`;
    for (const button of item.querySelectorAll("button")) button.setAttribute("aria-pressed", row?.action === button.value);
  }

  function decide(item, action, label) {
    const {id, label: previous, suggested, source} = item.dataset;
    const row = {object_id: id, action, label, previous, suggested, source, date: new Date().toISOString()};
    decided.set(item, row);
    order.push(item);
    mark(item, row);
    show();
    if (item === current) focus(near(1) ?? item);
  }

  function undo() {
    const item = order.pop();
    if (!item) return;
    decided.delete(item);
    mark(item, null);
    show();
    focus(item);
  }

  function correct(item) {
    focus(item);
    other.value = "";
    wrong.textContent = "";
    dialog.showModal();
  }

  function act(item, action) {
    const {label, suggested} = item.dataset;
    if (action === "accept" && suggested) decide(item, action, suggested);
    else if (action === "reject") decide(item, action, label);
    else correct(item);
  }

  // A spreadsheet would take what begins like a formula for one.
  function field(value) {
    const plain = formula.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  }

  function csv() {
    const lines = [...decided.values()].map(row => columns.map(name => field(row[name] ?? "")).join(","));
    return "\ufeff" + [columns.join(","), ...lines].join("\r\n") + "\r\n";
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
    link.download = bar.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    saved = order.length;
  }

  document.addEventListener("click", event => {
    const button = event.target.closest(".review-item button");
    if (button) {
      const item = button.closest(".review-item");
      focus(item);
      act(item, button.value);
    }
  });
  document.addEventListener("focusin", event => {
    const item = event.target.closest(".review-item");
    if (item && item !== current) {
      current.tabIndex = -1;
      current = item;
      item.tabIndex = 0;
    }
  });
  const moves = {ArrowRight: () => near(1), ArrowLeft: () => near(-1), ArrowDown: () => vertical(1), ArrowUp: () => vertical(-1)};
  const actions = {a: "accept", c: "correct", r: "reject"};
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || !event.target.closest(".review-item, .review-bar")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (moves[key]) focus(moves[key]());
    else if (actions[key]) act(current, actions[key]);
    else if (key === "u") undo();
    else if (key === "s" && decided.size) save();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("submit", event => {
    event.preventDefault();
    const chosen = other.value.trim();
    if (!classes.has(chosen)) wrong.textContent = chosen ? `There is no class ${chosen}.` : "Choose a class.";
    else {
      dialog.close();
      decide(current, "correct", chosen);
    }
  });
  dialog.addEventListener("close", () => current.focus());
  dialog.querySelector("button[type=button]").addEventListener("click", () => dialog.close());
  bar.querySelector("[value=save]").addEventListener("click", save);
  bar.querySelector("[value=undo]").addEventListener("click", undo);
  addEventListener("beforeunload", event => { if (order.length !== saved) event.preventDefault(); });
  current.tabIndex = 0;
  show();
})();
