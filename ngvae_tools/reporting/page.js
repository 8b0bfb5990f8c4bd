"use strict";
document.documentElement.classList.add("live");

// A traversal: the strip of all its frames stays, and a window above it shows one of them.
for (const film of document.querySelectorAll(".film")) {
  const stage = film.querySelector(".stage"), strip = film.querySelector(".strip");
  const range = stage.querySelector("input"), output = stage.querySelector("output"), window_ = stage.querySelector(".window");
  const values = film.dataset.values.split(" "), changes = film.dataset.changes.split(" ");
  const image = new Image();
  image.src = strip.src;
  image.alt = "";
  window_.append(image);
  const show = () => {
    const at = Number(range.value), name = "z" + film.dataset.index + " = " + values[at];
    window_.style.setProperty("--at", at);
    window_.setAttribute("aria-label", "Decoded image at " + name);
    range.setAttribute("aria-valuetext", name + ", change " + changes[at]);
    const value = document.createElement("b");
    value.textContent = name;
    output.replaceChildren(value, document.createElement("br"), "change " + changes[at]);
  };
  range.addEventListener("input", show);
  strip.addEventListener("click", (event) => {
    const box = strip.getBoundingClientRect();
    range.value = Math.floor((event.clientX - box.left) / box.width * values.length);
    show();
  });
  show();
  stage.hidden = false;
}

// A map: the point nearest to the pointer, or the one the slider stands at, shows its image and its name.
for (const map of document.querySelectorAll(".map")) {
  const data = JSON.parse(map.querySelector("script").textContent);
  const drawing = map.querySelector("svg"), popup = map.querySelector(".popup"), view = popup.querySelector("svg");
  const text = popup.querySelector("span"), ring = drawing.querySelector(".ring");
  const points = [...drawing.querySelectorAll("circle[class^=c]")];
  const places = points.map((point) => [Number(point.getAttribute("cx")), Number(point.getAttribute("cy"))]);
  const [, , width, height] = drawing.getAttribute("viewBox").split(" ").map(Number);
  const tools = map.parentElement.querySelector(".tools"), walk = tools.querySelector("input"), choice = tools.querySelector("select");
  const legends = map.parentElement.querySelectorAll(".legend");
  const columns = Number(map.dataset.columns), wide = Number(map.dataset.width), tall = Number(map.dataset.height);
  const show = (i) => {
    const [x, y] = places[i];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    ring.removeAttribute("visibility");
    text.textContent = data.names[i];
    if (view) view.setAttribute("viewBox", [i % columns * wide, Math.floor(i / columns) * tall, wide, tall].join(" "));
    popup.hidden = false;
    const scale = drawing.clientWidth / width, box = popup.getBoundingClientRect(), gap = 12;
    const right = x * scale + gap + box.width < width * scale, below = y * scale + gap + box.height < height * scale;
    popup.style.left = Math.max(0, right ? x * scale + gap : x * scale - gap - box.width) + "px";
    popup.style.top = Math.max(0, below ? y * scale + gap : y * scale - gap - box.height) + "px";
  };
  const hide = () => { popup.hidden = true; ring.setAttribute("visibility", "hidden"); };
  const nearest = (event) => {
    const box = drawing.getBoundingClientRect(), scale = width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = 0, least = Infinity;
    places.forEach(([a, b], i) => {
      const far = (a - x) ** 2 + (b - y) ** 2;
      if (far < least) [best, least] = [i, far];
    });
    if (least < 24 ** 2) show(best); else hide();
  };
  const step = () => {
    const i = data.order[Number(walk.value)];
    walk.setAttribute("aria-valuetext", data.names[i] + ", image " + (Number(walk.value) + 1) + " of " + data.names.length);
    show(i);
  };
  drawing.addEventListener("pointermove", nearest);
  drawing.addEventListener("pointerdown", nearest);
  drawing.addEventListener("pointerleave", hide);
  walk.addEventListener("input", step);
  walk.addEventListener("focus", step);
  walk.addEventListener("blur", hide);
  if (choice) choice.addEventListener("change", () => {
    const codes = data.codes[Number(choice.value)];
    points.forEach((point, i) => point.setAttribute("class", "c" + codes[i]));
    legends.forEach((legend, i) => { legend.hidden = i !== Number(choice.value); });
  });
  tools.hidden = false;
}
