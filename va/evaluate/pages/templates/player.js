/* Moves the page of one video: face box, point, lit regions, playhead and numbers follow its clock.
   All times are seconds; data of cells is null where there is nothing. */
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("player-data").textContent);
  const end = data.duration_s;
  const times = data.time_s;
  const TRAIL_S = 3;
  const TRAIL_PARTS = 24;

  /* --- the data at a time ------------------------------------------------------------------------------------ */

  // Neighbouring cells and the way from one to the other, in [0, 1].
  const place = (t) => {
    let low = 0;
    let high = times.length - 1;
    if (t <= times[0]) return [0, 0, 0];
    if (t >= times[high]) return [high, high, 0];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (times[middle] <= t) low = middle;
      else high = middle;
    }
    return [low, high, (t - times[low]) / (times[high] - times[low])];
  };
  const whole = (row) => (Array.isArray(row) ? row.every((value) => value !== null) : row !== null);
  // Straight lines between cells; next to a gap, the nearest cell as it is. Null where that cell has nothing.
  const at = (rows, t) => {
    if (!rows) return null;
    const [low, high, way] = place(t);
    if (!whole(rows[low]) || !whole(rows[high])) {
      const nearest = rows[way < 0.5 ? low : high];
      return whole(nearest) ? nearest : null;
    }
    if (!Array.isArray(rows[low])) return rows[low] + way * (rows[high] - rows[low]);
    return rows[low].map((value, index) => value + way * (rows[high][index] - value));
  };

  /* --- the clock: the video, or time itself ------------------------------------------------------------------- */

  const timer = () => {
    let from = 0;
    let since = null;
    const self = new EventTarget();
    const say = (name) => self.dispatchEvent(new Event(name));
    const now = () => (since === null ? from : from + ((performance.now() - since) / 1000) * self.playbackRate);
    Object.defineProperties(self, {
      currentTime: { get: () => Math.min(end, now()), set: (t) => { from = t; if (since !== null) since = performance.now(); say("seeked"); } },
      paused: { get: () => since === null },
      ended: { get: () => now() >= end },
      playbackRate: { value: 1, writable: true },
      play: { value: () => { if (now() >= end) from = 0; since = performance.now(); say("play"); } },
      pause: { value: () => { from = self.currentTime; since = null; say("pause"); } },
    });
    return self;
  };

  const bytes = (element) => {
    const base64 = element.textContent;
    const parts = [];
    const step = 4 << 18; // decoded piece by piece, so that no second copy of a long text is made
    for (let start = 0; start < base64.length; start += step) {
      const piece = atob(base64.slice(start, start + step));
      const part = new Uint8Array(piece.length);
      for (let index = 0; index < piece.length; index += 1) part[index] = piece.charCodeAt(index);
      parts.push(part);
    }
    element.remove();
    return parts;
  };

  const video = byId("video");
  let clock = data.video && video ? video : timer();
  const now = () => Math.max(0, Math.min(end, clock.currentTime));
  const seek = (t) => {
    clock.currentTime = Math.max(0, Math.min(end, t));
    show(true);
  };
  const toggle = () => {
    if (clock.paused || clock.ended) clock.play()?.catch(() => {}); // refused: the button goes on saying "Play"
    else clock.pause();
    show(true);
  };

  /* --- what follows the clock --------------------------------------------------------------------------------- */

  const minus = (value, digits) => (value === null ? "–" : value.toFixed(digits).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, ""));
  const clockText = (t) => {
    const tenths = Math.round(t * 10);
    return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
  };
  const put = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };
  const query = (selector) => document.querySelector(selector);

  const regions = [...document.querySelectorAll(".region")].map((group) => ({ group, share: group.querySelector(".share") }));
  const brightest = Math.max(1e-6, ...(data.regions ?? []).map((row) => Math.max(...row.map((value) => value ?? 0))));
  const trail = Array.from({ length: TRAIL_PARTS }, (_, index) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.style.opacity = 0.7 * (1 - index / TRAIL_PARTS) ** 1.5;
    byId("trail").append(line);
    return line;
  });
  const attributes = (element, values) => { for (const [name, value] of Object.entries(values)) element.setAttribute(name, value); };

  const showPlane = (t, va, shares) => {
    attributes(byId("point"), va ? { cx: 100 * va[0], cy: -100 * va[1], visibility: "visible" } : { visibility: "hidden" });
    let newer = va;
    trail.forEach((line, index) => {
      const before = t - ((index + 1) * TRAIL_S) / TRAIL_PARTS;
      const older = before < 0 ? null : at(data.va, before);
      attributes(line, newer && older
        ? { x1: 100 * newer[0], y1: -100 * newer[1], x2: 100 * older[0], y2: -100 * older[1], visibility: "visible" }
        : { visibility: "hidden" });
      newer = older;
    });
    const first = shares ? shares.indexOf(Math.max(...shares)) : -1;
    regions.forEach(({ group, share }, index) => {
      group.style.setProperty("--p", shares ? (0.75 * shares[index]) / brightest : 0);
      group.classList.toggle("first", index === first);
      put(share, shares ? `${Math.round(100 * shares[index])}%` : "");
    });
    return first;
  };

  const showBox = (t) => {
    const box = at(data.boxes, t);
    if (!byId("box")) return;
    const { width, height } = byId("layer").viewBox.baseVal;
    attributes(byId("box"), box
      ? { x: box[0] * width, y: box[1] * height, width: (box[2] - box[0]) * width, height: (box[3] - box[1]) * height, visibility: "visible" }
      : { visibility: "hidden" });
  };

  let spoken = -1;
  const show = (settled) => {
    const t = now();
    const [va, smoothed, shares, gate] = [data.va, data.smoothed, data.regions, data.gate].map((rows) => at(rows, t));
    const first = showPlane(t, va, shares);
    showBox(t);
    byId("head").style.left = `${(100 * t) / end}%`;
    put(byId("time"), clockText(t));
    ["valence", "arousal"].forEach((name, index) => {
      put(query(`.now .${name} dd`), minus(va && va[index], 2));
      put(query(`.now .${name} .also b`), minus(smoothed && smoothed[index], 2));
    });
    put(query(".now .gate dd"), minus(gate, 2));
    put(query(".now .likeliest dd"), first < 0 ? "–" : `${data.texts[first]} (${Math.round(100 * shares[first])}%)`);
    put(byId("play"), clock.paused || clock.ended ? "Play" : "Pause");
    // A screen reader says every change, so while it plays there is one a second.
    if (settled || Math.floor(t) !== spoken) {
      spoken = Math.floor(t);
      const said = va ? `valence ${minus(va[0], 2)}, arousal ${minus(va[1], 2)}, ${data.names[first] ?? ""}`.replace(/, $/, "") : "nothing predicted";
      attributes(byId("track"), { "aria-valuenow": t.toFixed(2), "aria-valuetext": `${t.toFixed(1)} of ${end.toFixed(1)} seconds, ${said}` });
    }
  };

  let frame = 0;
  const follow = () => {
    cancelAnimationFrame(frame);
    show(false);
    if (clock !== video && clock.ended && !clock.paused) clock.pause();
    if (!clock.paused && !clock.ended) frame = requestAnimationFrame(follow);
  };

  const listen = () => {
    clock.addEventListener("play", follow);
    for (const name of ["pause", "ended", "timeupdate", "loadeddata"]) clock.addEventListener(name, () => show(clock.paused));
    clock.addEventListener("seeked", () => show(true));
  };
  if (video) {
    video.addEventListener("loadedmetadata", () => attributes(byId("layer"), { viewBox: `0 0 ${video.videoWidth} ${video.videoHeight}` }));
    video.addEventListener("error", () => {
      const t = now();
      clock = timer();
      clock.playbackRate = Number(byId("speed").value);
      listen();
      byId("stage").classList.add("empty");
      for (const element of [video, byId("wide"), byId("mute")]) element.remove();
      const said = document.createElement("p");
      said.textContent = "This browser cannot show the video";
      byId("stage").prepend(said);
      seek(t);
    });
    video.addEventListener("click", toggle);
    byId("mute").addEventListener("click", () => {
      video.muted = !video.muted;
      byId("mute").setAttribute("aria-pressed", String(video.muted));
    });
    byId("wide").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : byId("stage").requestFullscreen()));
    video.src = data.video.address ?? URL.createObjectURL(new Blob(bytes(byId("player-video")), { type: data.video.mime }));
  }
  listen();

  /* --- what moves the clock ----------------------------------------------------------------------------------- */

  const track = byId("track");
  const seekTo = (event) => {
    const inside = query(".inside.above").getBoundingClientRect();
    seek((end * (event.clientX - inside.left)) / inside.width);
  };
  let dragging = false;
  track.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    track.setPointerCapture(event.pointerId);
    track.focus({ preventScroll: true });
    seekTo(event);
  });
  track.addEventListener("pointermove", (event) => dragging && seekTo(event));
  for (const name of ["pointerup", "pointercancel"]) track.addEventListener(name, () => { dragging = false; });

  byId("play").addEventListener("click", toggle);
  byId("speed").addEventListener("change", (event) => {
    const t = now();
    clock.playbackRate = Number(event.target.value);
    if (clock !== video) seek(t);
  });

  document.addEventListener("keydown", (event) => {
    const on = event.target.closest("button, select, summary, a");
    if (event.ctrlKey || event.metaKey || event.altKey || on?.tagName === "SELECT") return;
    const step = event.shiftKey ? 5 : 1;
    const upDown = event.target === track;
    const actions = {
      " ": on ? null : toggle, // which presses the button in focus
      k: toggle,
      K: toggle,
      ArrowLeft: () => seek(now() - step),
      ArrowRight: () => seek(now() + step),
      ArrowDown: upDown ? () => seek(now() - step) : null,
      ArrowUp: upDown ? () => seek(now() + step) : null,
      PageDown: upDown ? () => seek(now() - 10) : null,
      PageUp: upDown ? () => seek(now() + 10) : null,
      Home: () => seek(0),
      End: () => seek(end),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  /* --- the trajectories, drawn once --------------------------------------------------------------------------- */

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const margin = (name) => parseFloat(getComputedStyle(track).getPropertyValue(`--${name}`));
  const every = Math.ceil(times.length / 4000); // about three steps per pixel
  const thin = (rows) => rows.filter((_, index) => index % every === 0);

  const draw = () => {
    const x = thin(times);
    const rows = [
      { name: "valence", y: thin(data.va).map((row) => row[0]), soft: data.smoothed && thin(data.smoothed).map((row) => row[0]), ticks: [-1, 0, 1] },
      { name: "arousal", y: thin(data.va).map((row) => row[1]), soft: data.smoothed && thin(data.smoothed).map((row) => row[1]), ticks: [-1, 0, 1] },
      ...(data.gate ? [{ name: "sound", title: "share of the sound", y: thin(data.gate), ticks: [0, 1] }] : []),
    ];
    const weights = rows.map((row) => (row.name === "sound" ? 0.6 : 1));
    const gap = 0.08;
    const unit = (1 - gap * (rows.length - 1)) / weights.reduce((sum, weight) => sum + weight);
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--muted") },
      hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      hovermode: "x unified", hoversubplots: "axis",
      margin: { l: margin("left"), r: margin("right"), t: margin("top"), b: margin("bottom") },
      xaxis: {
        range: [0, end], fixedrange: true, showgrid: false, zeroline: false, hoverformat: ".2f", anchor: `y${rows.length}`,
        title: { text: "time (s)", standoff: 4 }, automargin: false, linecolor: colour("--line"), ticks: "", unifiedhovertitle: { text: "%{x:.2f} s" },
        spikecolor: colour("--muted"), spikethickness: 1,
      },
      annotations: [],
    };
    const traces = [];
    let top = 1;
    rows.forEach((row, index) => {
      const [lowest, highest] = [row.ticks[0], row.ticks[row.ticks.length - 1]];
      const pad = 0.06 * (highest - lowest);
      const yaxis = index ? `y${index + 1}` : "y";
      layout[`yaxis${index ? index + 1 : ""}`] = {
        domain: [Math.max(0, top - unit * weights[index]), top], range: [lowest - pad, highest + pad], tickvals: row.ticks, fixedrange: true,
        gridcolor: colour("--grid"), zeroline: lowest < 0, zerolinecolor: colour("--line"), zerolinewidth: 1, ticks: "", automargin: false,
      };
      layout.annotations.push({
        text: row.title ?? row.name, xref: "paper", x: 0, xanchor: "left", yref: "paper", y: top, yanchor: "bottom",
        showarrow: false, font: { color: colour(`--${row.name}`), size: 12.5 }, borderpad: 1,
      });
      const line = { x, yaxis, mode: x.length < 3 ? "lines+markers" : "lines", hovertemplate: "%{y:.3f}" };
      traces.push({ ...line, y: row.y, name: row.title ?? row.name, line: { color: colour(`--${row.name}`), width: 2 }, opacity: row.soft ? 0.75 : 1 });
      if (row.soft) traces.push({ ...line, y: row.soft, name: `${row.name} smoothed`, line: { color: colour("--ink"), width: 1.6, dash: "1px,2px" } });
      top -= unit * weights[index] + gap;
    });
    return Plotly.react(byId("chart"), traces, layout, { responsive: true, displayModeBar: false, doubleClick: false, scrollZoom: false, showSendToCloud: false, plotlyServerURL: "" });
  };

  put(byId("length"), clockText(end));
  draw();
  show(true);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
