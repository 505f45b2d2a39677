"use strict";
const all = (within, what) => [...within.querySelectorAll(what)];
const one = (what) => document.querySelector(what);
const list = one("#exhibits"), exhibits = all(list, ".exhibit"), controls = one("#controls"), large = one("#large");

// Pictures that the page itself holds.
const held = one("#media") && JSON.parse(one("#media").textContent);
for (const image of all(document, "[data-media]")) image.src = held[image.dataset.media];

// Every film of an object shows the same view; a strip of fewer frames begins again.
const place = (frame, view) => {
  const { count, columns } = frame.dataset, at = view % count;
  frame.style.setProperty("--x", at % columns);
  frame.style.setProperty("--y", Math.floor(at / columns));
};
const show = (exhibit, view) => {
  const slider = exhibit.querySelector("header input"), count = +slider.max + 1;
  exhibit.view = ((view % count) + count) % count;
  for (const frame of all(exhibit, ".film .frame")) place(frame, exhibit.view);
  slider.value = exhibit.view;
  exhibit.querySelector("header output").textContent = `${exhibit.view + 1} / ${count}`;
  if (large.open && opened.exhibit === exhibit) enlarged();
};
const scrub = (element, shown) => {
  element.addEventListener("pointermove", (event) => {
    const box = element.getBoundingClientRect(), count = +shown().querySelector("header input").max + 1;
    shown().held = true;
    show(shown(), Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count))));
  });
  for (const name of ["pointerleave", "pointercancel"]) element.addEventListener(name, () => { shown().held = false; });
};
const arrows = (event, exhibit) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  exhibit.held = true;
  show(exhibit, exhibit.view + step);
};

// Films play while they can be seen, unless that is unwelcome or one of them is under the pointer.
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const seen = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target);
});
for (const exhibit of exhibits) {
  const slider = exhibit.querySelector("header input"), films = all(exhibit, ".film");
  slider.hidden = false;
  slider.addEventListener("input", () => { exhibit.held = true; show(exhibit, +slider.value); });
  slider.addEventListener("blur", () => { exhibit.held = false; });
  for (const film of films) {
    let from = 0;
    scrub(film, () => exhibit);
    film.addEventListener("pointerdown", (event) => { from = event.clientX; });
    film.addEventListener("click", (event) => {
      const dragged = event.detail > 0 && Math.abs(event.clientX - from) > 8;  // a finger that scrubs
      if (!dragged) enlarge(exhibit, film);
    });
    film.addEventListener("keydown", (event) => arrows(event, exhibit));
    film.addEventListener("blur", () => { exhibit.held = false; });
  }
  show(exhibit, 0);
  watcher.observe(exhibit);
}
const tick = (now) => {
  for (const exhibit of playing ? seen : []) {
    const due = 1000 / exhibit.dataset.fps;
    if (exhibit.held || now - (exhibit.moved || 0) < due) continue;
    exhibit.moved = now;
    show(exhibit, exhibit.view + 1);
  }
  requestAnimationFrame(tick);
};
requestAnimationFrame(tick);

// One film large: the same strip in a larger window.
const opened = { exhibit: null, film: null };
const [about, pane, range, told] = ["h3", ".window", "input", "output"].map((what) => large.querySelector(what));
const enlarged = () => {
  place(pane.firstChild, opened.exhibit.view);
  range.value = opened.exhibit.view;
  told.textContent = `${opened.exhibit.view + 1} / ${+range.max + 1}`;
};
const enlarge = (exhibit, film) => {
  Object.assign(opened, { exhibit, film });
  about.textContent = film.getAttribute("aria-label");
  pane.replaceChildren(film.querySelector(".frame").cloneNode(true));
  range.max = exhibit.querySelector("header input").max;
  if (!large.open) large.showModal();
  enlarged();
};
const another = (step) => {
  const films = all(opened.exhibit, ".film").filter((film) => film.offsetParent);
  enlarge(opened.exhibit, films[(films.indexOf(opened.film) + step + films.length) % films.length]);
};
large.querySelector("[name=previous]").addEventListener("click", () => another(-1));
large.querySelector("[name=next]").addEventListener("click", () => another(1));
range.addEventListener("input", () => { opened.exhibit.held = true; show(opened.exhibit, +range.value); });
large.querySelector("[name=close]").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
large.addEventListener("close", () => { opened.exhibit.held = false; });
large.addEventListener("keydown", (event) => { if (event.target !== range) arrows(event, opened.exhibit); });
scrub(pane, () => opened.exhibit);

// Which objects, in which order, and what of them.
const field = (name) => controls.elements[name];
const figure = (exhibit, key) => JSON.parse(exhibit.dataset.figures)[key];
const turn = field("turn");
const arrange = () => {
  const wanted = field("filter").value.trim().toLowerCase(), option = field("sort").selectedOptions[0], key = option.value;
  const back = turn.getAttribute("aria-pressed") === "true" ? -1 : 1, best = option.dataset.rising === "1" ? -1 : 1;
  const order = exhibits.map((exhibit, index) => ({ exhibit, index, value: figure(exhibit, key) }));
  order.sort((a, b) => {
    if (!key) return back * (a.index - b.index);
    if (key === "name") return back * a.exhibit.dataset.name.localeCompare(b.exhibit.dataset.name, "en", { numeric: true });
    if (a.value === undefined || b.value === undefined) return (a.value === undefined) - (b.value === undefined);
    return back * best * (a.value - b.value);
  });
  list.append(...order.map(({ exhibit }) => exhibit));
  let count = 0;
  for (const exhibit of exhibits) {
    exhibit.hidden = !exhibit.dataset.name.toLowerCase().includes(wanted);
    count += !exhibit.hidden;
  }
  const of = count === exhibits.length ? "" : `${count} of `;
  controls.querySelector("output").textContent = `${of}${exhibits.length} object${exhibits.length === 1 ? "" : "s"}`;
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
