// A canvas to draw on, by mouse or finger. After each stroke, the event "input" carries the picture as a data: URL.
const canvas = element.querySelector("canvas"), pen = canvas.getContext("2d");
let last = null;
const clear = () => { pen.fillStyle = props.paper; pen.fillRect(0, 0, canvas.width, canvas.height); };
const at = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
};
const line = (event) => {
  const here = at(event);
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...here);
  pen.stroke();
  last = here;
};
pen.strokeStyle = props.ink;
pen.lineWidth = 24;
pen.lineCap = pen.lineJoin = "round";
clear();
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = at(event);
  line(event);
});
canvas.addEventListener("pointermove", (event) => { if (last) line(event); });
canvas.addEventListener("pointerup", () => {
  last = null;
  trigger("input", { picture: canvas.toDataURL("image/png") });
});
canvas.addEventListener("pointercancel", () => { last = null; });
element.querySelector("button").addEventListener("click", clear);
