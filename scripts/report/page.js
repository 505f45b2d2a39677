"use strict";
document.documentElement.classList.add("scripted");

// The animation: the slider chooses which picture is shown large.
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
