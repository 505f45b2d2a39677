"use strict";
const all = (within, what) => [...within.querySelectorAll(what)];
const one = (what) => document.querySelector(what);
const list = one("#items"), items = all(list, ".item"), controls = one("#controls"), large = one("#large");

// Images embedded in the page.
const held = one("#media") && JSON.parse(one("#media").textContent);
for (const image of all(document, "[data-media]")) image.src = held[image.dataset.media];

// All animations of an object show the same view; a shorter one starts over.
const place = (frame, view) => {
  const { count, columns } = frame.dataset, at = view % count;
  frame.style.setProperty("--x", at % columns);
  frame.style.setProperty("--y", Math.floor(at / columns));
};
const show = (item, view) => {
  const slider = item.querySelector("header input"), count = +slider.max + 1;
  item.view = ((view % count) + count) % count;
  for (const frame of all(item, ".film .frame")) place(frame, item.view);
  slider.value = item.view;
  item.querySelector("header output").textContent = `${item.view + 1} / ${count}`;
  if (large.open && opened.item === item) enlarged();
};
const scrub = (element, shown) => {
  element.addEventListener("pointermove", (event) => {
    const box = element.getBoundingClientRect(), count = +shown().querySelector("header input").max + 1;
    shown().held = true;
    show(shown(), Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count))));
  });
  for (const name of ["pointerleave", "pointercancel"]) element.addEventListener(name, () => { shown().held = false; });
};
const arrows = (event, item) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  item.held = true;
  show(item, item.view + step);
};

// Animations play while visible, unless reduced motion is preferred or the pointer is over one of them.
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const seen = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target);
});
for (const item of items) {
  const slider = item.querySelector("header input"), films = all(item, ".film");
  slider.hidden = false;
  slider.addEventListener("input", () => { item.held = true; show(item, +slider.value); });
  slider.addEventListener("blur", () => { item.held = false; });
  for (const film of films) {
    let from = 0;
    scrub(film, () => item);
    film.addEventListener("pointerdown", (event) => { from = event.clientX; });
    film.addEventListener("click", (event) => {
      const dragged = event.detail > 0 && Math.abs(event.clientX - from) > 8;  // scrubbing with a finger
      if (!dragged) enlarge(item, film);
    });
    film.addEventListener("keydown", (event) => arrows(event, item));
    film.addEventListener("blur", () => { item.held = false; });
  }
  show(item, 0);
  watcher.observe(item);
}
const tick = (now) => {
  for (const item of playing ? seen : []) {
    const due = 1000 / item.dataset.fps;
    if (item.held || now - (item.moved || 0) < due) continue;
    item.moved = now;
    show(item, item.view + 1);
  }
  requestAnimationFrame(tick);
};
requestAnimationFrame(tick);

// The enlarged view: the same sprite sheet in a larger window.
const opened = { item: null, film: null };
const [about, pane, range, position] = ["h3", ".window", "input", "output"].map((what) => large.querySelector(what));
const enlarged = () => {
  place(pane.firstChild, opened.item.view);
  range.value = opened.item.view;
  position.textContent = `${opened.item.view + 1} / ${+range.max + 1}`;
};
const enlarge = (item, film) => {
  Object.assign(opened, { item, film });
  about.textContent = film.getAttribute("aria-label");
  pane.replaceChildren(film.querySelector(".frame").cloneNode(true));
  range.max = item.querySelector("header input").max;
  if (!large.open) large.showModal();
  enlarged();
};
const another = (step) => {
  const films = all(opened.item, ".film").filter((film) => film.offsetParent);
  enlarge(opened.item, films[(films.indexOf(opened.film) + step + films.length) % films.length]);
};
large.querySelector("[name=previous]").addEventListener("click", () => another(-1));
large.querySelector("[name=next]").addEventListener("click", () => another(1));
range.addEventListener("input", () => { opened.item.held = true; show(opened.item, +range.value); });
large.querySelector("[name=close]").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
large.addEventListener("close", () => { opened.item.held = false; });
large.addEventListener("keydown", (event) => { if (event.target !== range) arrows(event, opened.item); });
scrub(pane, () => opened.item);

// Filter, sort and show objects.
const field = (name) => controls.elements[name];
const figure = (item, key) => JSON.parse(item.dataset.figures)[key];
const turn = field("turn");
const arrange = () => {
  const wanted = field("filter").value.trim().toLowerCase(), option = field("sort").selectedOptions[0], key = option.value;
  const back = turn.getAttribute("aria-pressed") === "true" ? -1 : 1, best = option.dataset.rising === "1" ? -1 : 1;
  const order = items.map((item, index) => ({ item, index, value: figure(item, key) }));
  order.sort((a, b) => {
    if (!key) return back * (a.index - b.index);
    if (key === "name") return back * a.item.dataset.name.localeCompare(b.item.dataset.name, "en", { numeric: true });
    if (a.value === undefined || b.value === undefined) return (a.value === undefined) - (b.value === undefined);
    return back * best * (a.value - b.value);
  });
  list.append(...order.map(({ item }) => item));
  let count = 0;
  for (const item of items) {
    item.hidden = !item.dataset.name.toLowerCase().includes(wanted);
    count += !item.hidden;
  }
  const of = count === items.length ? "" : `${count} of `;
  controls.querySelector("output").textContent = `${of}${items.length} object${items.length === 1 ? "" : "s"}`;
  turn.textContent = key && key !== "name" ? "Worst first" : "Reverse";
};
const choose = () => {
  for (const box of all(controls, "[name=show]")) list.classList.toggle(`no-${box.value}`, !box.checked);
};
const say = () => { field("play").textContent = playing ? "Pause" : "Play"; };
controls.addEventListener("submit", (event) => event.preventDefault());
field("filter").addEventListener("input", arrange);
field("sort").addEventListener("change", arrange);
turn.addEventListener("click", () => {
  turn.setAttribute("aria-pressed", turn.getAttribute("aria-pressed") !== "true");
  arrange();
});
for (const box of all(controls, "[name=show]")) box.addEventListener("change", choose);
field("play").addEventListener("click", () => { playing = !playing; say(); });
controls.hidden = false;
arrange();
choose();
say();
