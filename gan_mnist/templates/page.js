"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const html = document.documentElement;
let shownEpoch = null;  // The epoch in the player, marked in all curves.

const inLanguage = text => text[html.dataset.lang === "zh" ? 1 : 0];
const escaped = text => String(text).replace(/[&<>"]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}[c]));

// Axis numbers: 1, 2 or 5 times a power of ten apart.
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}
const short = value => Math.abs(value) < 1e-12 ? "0" : String(+value.toPrecision(4));

class Chart {
  constructor(place, chart) {
    this.chart = chart;
    this.box = document.createElement("div");
    this.box.className = "chart";
    place.append(this.box);
    const ends = chart.series.flatMap(s => [s.x[0], s.x[s.x.length - 1]]);
    this.left = chart.shift ? 0 : Math.min(...ends);
    this.right = Math.max(...ends);
    if (this.right <= this.left) this.right = this.left + 1;
    this.box.addEventListener("pointermove", event => this.point(event));
    this.box.addEventListener("pointerleave", () => this.unpoint());
    this.box.addEventListener("click", event => player && player.show(player.nearest(Math.floor(this.at(event)))));
  }

  x(value) { return this.area.left + (value - this.left) / (this.right - this.left) * this.area.width; }
  y(value) { return this.area.top + (this.chart.max - value) / (this.chart.max - this.chart.min) * this.area.height; }
  at(event) {
    const box = this.box.querySelector("svg").getBoundingClientRect();
    const share = (event.clientX - box.left - this.area.left) / this.area.width;
    return this.left + Math.min(1, Math.max(0, share)) * (this.right - this.left);
  }

  draw() {
    const {chart} = this, width = this.box.clientWidth || 320, height = 220;
    this.area = {left: 46, top: 8, width: width - 58, height: height - 32};
    const {left, top} = this.area, right = left + this.area.width, bottom = top + this.area.height;
    const parts = [];
    for (const value of ticks(chart.min, chart.max, 4)) {
      const y = this.y(value).toFixed(1);
      parts.push(`<line x1="${left}" x2="${right}" y1="${y}" y2="${y}" stroke="#e8eaef"/>`,
        `<text x="${left - 6}" y="${y}" dy="4" text-anchor="end">${short(value)}</text>`);
    }
    for (const value of ticks(this.left, this.right, Math.max(2, width / 90)))
      parts.push(`<text x="${this.x(value).toFixed(1)}" y="${bottom + 16}" text-anchor="middle">${short(value)}</text>`);
    parts.push(`<text x="${right}" y="${height - 1}" text-anchor="end">${escaped(inLanguage(data.texts.epoch))}</text>`);
    parts.push(`<clipPath id="${this.box.id}clip"><rect x="${left}" y="${top - 2}" width="${this.area.width}" height="${this.area.height + 4}"/></clipPath>`,
      `<g clip-path="url(#${this.box.id}clip)" fill="none">`);
    for (const line of chart.lines) {
      const y = this.y(line.y).toFixed(1);
      parts.push(`<line class="level" x1="${left}" x2="${right}" y1="${y}" y2="${y}" stroke="${line.colour}" stroke-dasharray="5 4"/>`);
    }
    for (const s of chart.series) {
      const points = s.x.flatMap((x, i) => s.y[i] === null ? [] : [`${this.x(x).toFixed(1)},${this.y(s.y[i]).toFixed(1)}`]);
      const style = s.faint ? 'stroke-width="0.8" opacity="0.3"' : 'stroke-width="1.8"';
      parts.push(`<polyline points="${points.join(" ")}" stroke="${s.colour}" ${style} stroke-linejoin="round"/>`);
      if (points.length < 25) for (const point of points) {
        const [cx, cy] = point.split(",");
        parts.push(`<circle cx="${cx}" cy="${cy}" r="2.6" fill="${s.colour}"/>`);
      }
    }
    parts.push('</g><line class="cursor" stroke="#8a93a3"/><line class="hover" stroke="#c7ccd6"/>');
    const bold = chart.series.filter(s => !s.faint);
    const names = bold.map(s => `<span><i class="dot" style="background:${s.colour}"></i>${escaped(inLanguage(s.name))}</span>`);
    const levels = [...new Map(chart.lines.map(l => [inLanguage(l.name) + l.y, l])).values()];
    const lines = levels.map(l => `<span>- - ${escaped(inLanguage(l.name))} ${l.y}</span>`);
    this.box.innerHTML = `<h3>${escaped(inLanguage(chart.title))}</h3><div class="legend">${[...names, ...new Set(lines)].join("")}</div>` +
      `<svg viewBox="0 0 ${width} ${height}" height="${height}" role="img">${parts.join("")}</svg><div class="tip" hidden></div>`;
    this.mark();
  }

  place(line, value) {
    const inside = value !== null && value >= this.left && value <= this.right;
    const x = inside ? this.x(value).toFixed(1) : -9;
    for (const [key, position] of Object.entries({x1: x, x2: x, y1: this.area.top, y2: this.area.top + this.area.height}))
      this.box.querySelector(line).setAttribute(key, position);
  }

  mark() { this.place(".cursor", shownEpoch === null ? null : Math.min(shownEpoch + this.chart.shift, this.right)); }

  point(event) {
    const x = this.at(event), tip = this.box.querySelector(".tip");
    this.place(".hover", x);
    const rows = this.chart.series.filter(s => !s.faint && s.x.length).map(s => {
      let best = 0;
      s.x.forEach((value, i) => { if (Math.abs(value - x) < Math.abs(s.x[best] - x)) best = i; });
      return `<i class="dot" style="background:${s.colour}"></i>${escaped(inLanguage(s.name))}: ${s.y[best]}`;
    });
    tip.innerHTML = [`${escaped(inLanguage(data.texts.epoch))} ${Math.floor(x)}`, ...rows].join("<br>");
    tip.hidden = false;
    const room = this.box.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, this.x(x) + 12))}px`;
  }

  unpoint() {
    this.box.querySelector(".tip").hidden = true;
    this.place(".hover", null);
  }
}

class Player {
  constructor(frames) {
    this.frames = frames;
    this.image = document.getElementById("grid");
    this.scrubber = document.getElementById("scrubber");
    this.button = document.getElementById("play");
    this.timer = null;
    this.scrubber.addEventListener("input", () => { this.pause(); this.show(+this.scrubber.value); });
    this.button.addEventListener("click", () => this.timer ? this.pause() : this.play());
  }

  nearest(epoch) {
    const distances = this.frames.epochs.map(other => Math.abs(other - epoch));
    return distances.indexOf(Math.min(...distances));
  }

  show(index) {
    this.index = index;
    this.image.src = this.frames.images[index];
    this.scrubber.value = index;
    shownEpoch = this.frames.epochs[index];
    this.label();
    charts.forEach(chart => chart.mark());
  }

  label() {
    document.getElementById("epoch").textContent = `${inLanguage(data.texts.epoch)} ${shownEpoch}`;
    this.button.textContent = this.timer ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", inLanguage(this.timer ? data.texts.pause : data.texts.play));
  }

  play() {
    const last = this.frames.epochs.length - 1;
    if (this.index === last) this.show(0);
    this.timer = setInterval(() => this.index < last ? this.show(this.index + 1) : this.pause(),
      Math.min(500, Math.max(80, 12000 / (last + 1))));
    this.label();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.label();
  }
}

const charts = [];
for (const place of document.querySelectorAll("[data-charts]"))
  for (const chart of data.charts[place.dataset.charts]) {
    charts.push(new Chart(place, chart));
    charts[charts.length - 1].box.id = `chart${charts.length}`;
  }
const player = data.frames && data.frames.epochs.length ? new Player(data.frames) : null;

function speak(language) {
  html.dataset.lang = language;
  html.lang = language === "zh" ? "zh-CN" : "en";
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", button.dataset.language === language);
  try { localStorage.setItem("gan_mnist.language", language); } catch (error) { /* A private window. */ }
  charts.forEach(chart => chart.draw());
  if (player) player.label();
}
function remembered() {
  try { return localStorage.getItem("gan_mnist.language"); } catch (error) { return null; }
}

for (const button of document.querySelectorAll("[data-language]"))
  button.addEventListener("click", () => speak(button.dataset.language));
if (player) { player.index = player.frames.epochs.length - 1; shownEpoch = player.frames.epochs[player.index]; }
speak(remembered() || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; charts.forEach(chart => chart.draw()); } });
