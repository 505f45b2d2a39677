"use strict";
document.documentElement.classList.add("scripted");

// The film: the slider chooses which picture is shown large.
const player = document.querySelector(".player");
if (player) {
  const large = document.querySelector(".hero img"), caption = document.querySelector(".hero figcaption");
  const [button, slider, told] = ["button", "input", "output"].map((name) => player.querySelector(name));
  const strip = document.querySelector(".film"), frames = [...strip.children];
  const newest = { src: large.src, caption: caption.textContent };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; };
  const show = (index, scroll = true) => {
    const frame = frames[index], last = index === frames.length - 1;
    large.src = last ? newest.src : frame.querySelector("img").src;
    caption.textContent = last ? newest.caption : frame.dataset.caption;
    slider.value = index;
    told.textContent = frame.querySelector("span").textContent;
    slider.setAttribute("aria-valuetext", frame.dataset.caption);
    frames.forEach((other) => other.removeAttribute("aria-current"));
    frame.setAttribute("aria-current", "true");
    if (scroll) strip.scrollLeft = frame.offsetLeft - strip.offsetLeft - (strip.clientWidth - frame.clientWidth) / 2;
  };
  slider.max = frames.length - 1;
  slider.addEventListener("input", () => { stop(); show(+slider.value); });
  frames.forEach((frame, index) => frame.addEventListener("click", () => { stop(); show(index, false); }));
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (+slider.value >= frames.length - 1) show(0);
    button.textContent = "Pause";
    timer = setInterval(() => {
      if (+slider.value >= frames.length - 1) return stop();
      show(+slider.value + 1);
    }, Math.max(120, Math.min(500, 8000 / frames.length)));
  });
  player.hidden = false;
  show(frames.length - 1);
}

// The charts: the values at the step under the pointer, or chosen with the arrow keys.
const add = (parent, name, text = "", kind = "") => {
  const element = parent.appendChild(document.createElement(name));
  element.textContent = text;
  element.className = kind;
  return element;
};
const nearest = (steps, step) => {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; steps[middle] > step ? (high = middle) : (low = middle); }
  return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
};
for (const chart of document.querySelectorAll(".chart")) {
  const { last, series } = JSON.parse(chart.querySelector("script").textContent);
  const steps = [...new Set(series.flatMap((one) => one[2]))].sort((a, b) => a - b);
  if (!steps.length) continue;
  const plot = chart.querySelector(".plot"), cursor = add(plot, "div", "", "cursor"), tip = add(plot, "div", "", "tip");
  let index = steps.length - 1;
  tip.setAttribute("aria-live", "polite");
  const hide = () => { cursor.hidden = tip.hidden = true; };
  const show = (at) => {
    index = Math.max(0, Math.min(steps.length - 1, at));
    const step = steps[index], left = step / last;
    tip.replaceChildren();
    add(tip, "b", "step " + step.toLocaleString("en"));
    for (const [label, colour, own, values] of series) {
      const place = own.length ? nearest(own, step) : -1;
      if (place < 0 || Math.abs(own[place] - step) > last / 50) continue;
      const line = add(tip, "div", "", colour);
      add(line, "span", label);
      add(line, "span", values[place].replace("-", "\u2212"));
    }
    cursor.style.left = 100 * left + "%";
    tip.style.left = left < 0.5 ? `calc(${100 * left}% + 10px)` : "auto";
    tip.style.right = left < 0.5 ? "auto" : `calc(${100 - 100 * left}% + 10px)`;
    cursor.hidden = tip.hidden = false;
  };
  hide();
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    show(nearest(steps, ((event.clientX - box.left) / box.width) * last));
  });
  plot.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape") hide();
    if (!move || event.target !== chart) return;
    event.preventDefault();
    show(tip.hidden ? index : index + move);
  });
}
