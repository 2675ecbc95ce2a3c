/* What all pages with charts share; put before the page's own script. Plotly's text is run when the page has been
   shown, each chart is drawn when it comes near the window or when there is time, and again in the reader's other
   colours or on paper. */
"use strict";
const charts = (() => {
  const touch = matchMedia("(pointer: coarse)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads a subset of HTML in every text; data is text, so its markup is shown, not read.
  const literal = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  const config = (buttons) => ({
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    // A list of what is offered, because the default offers to upload the data to plotly.js' makers.
    modeBarButtons: buttons,
    showSendToCloud: false,
    plotlyServerURL: "",
  });

  const layout = (more) => ({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--muted") },
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--accent") },
    dragmode: false,
    ...more,
  });

  const axis = (more) => ({
    gridcolor: colour("--grid"),
    linecolor: colour("--line"),
    zeroline: true,
    zerolinecolor: colour("--line"),
    zerolinewidth: 1,
    ticks: "",
    ...more,
  });

  // Reading plotly takes longer than all else here, so the text and the tables come first. The page's policy lets
  // only this very text run.
  const ready = new Promise((resolve) => {
    const run = () => setTimeout(() => {
      const script = document.createElement("script");
      script.textContent = document.getElementById("plotly").textContent;
      document.head.append(script);
      resolve();
    });
    if (document.readyState === "complete") run();
    else addEventListener("load", run);
  });

  const near = new Set();
  let show;
  const redraw = (element) => { if (near.has(element)) show(element); };

  /* `draw(element)` draws a chart; `printed(element)` says its size in pixels on paper, as the style sheet does: script
     runs before the page has its printed size. */
  const start = (draw, printed) => {
    const all = [...document.querySelectorAll(".chart")];
    let printing = false;
    show = (element) => {
      near.add(element);
      draw(element);
      // Paper is light, so colours can change once more while printing: the size must outlive that.
      if (printing && element.layout) Plotly.relayout(element, printed(element));
    };
    const watcher = new IntersectionObserver((entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting && !near.has(entry.target))) {
        watcher.unobserve(target);
        show(target);
      }
    }, { rootMargin: "300px 0px" });
    // The others follow one by one when the reader is not waited for, so that a picture of the whole page is whole.
    const idle = window.requestIdleCallback ?? ((then) => setTimeout(then, 200));
    const rest = () => {
      const next = all.find((element) => !near.has(element));
      if (!next) return;
      watcher.unobserve(next);
      show(next);
      idle(rest);
    };
    ready.then(() => { for (const element of all) watcher.observe(element); idle(rest); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => near.forEach(show));
    const onPaper = (now) => () => {
      printing = now;
      document.documentElement.classList.toggle("printing", printing);
      if (printing) for (const details of document.querySelectorAll("details")) details.open = true;
      if (!window.Plotly) return;
      for (const element of all) {
        show(element);
        if (!printing && element.layout) Plotly.relayout(element, { width: null, height: null, autosize: true });
      }
    };
    addEventListener("beforeprint", onPaper(true));
    addEventListener("afterprint", onPaper(false));
  };

  return { touch, colour, literal, config, layout, axis, redraw, start };
})();
