// The live charts of a gateway's page. Asks `/v1/query` once for the window, then follows `/v1/live` from there;
// without a stream it asks each second for what is new (`after` = the cursor of the last answer). It merges the new part of each bucket by count.
"use strict";

(() => {
  const POLL_MS = 1000;
  const POLL_MS_MAX = 10000;
  const AHEAD_MS = 60000; // a gateway's clock may be a little ahead of ours
  const SPACINGS_TO_GAP = 3; // a silence of more than so many usual spacings breaks the line
  const HEIGHT_PX = 184;
  const INCREMENTS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map((s) => s * 1000);

  const root = document.getElementById("charts");
  if (!root) return;
  const gateway = root.dataset.gateway;
  const spanMs = Number(root.dataset.spanMs);
  const stepMs = Number(root.dataset.stepMs);
  const fixedEndMs = root.dataset.endMs ? Number(root.dataset.endMs) : null;
  const serverAheadMs = Number(root.dataset.nowMs) - Date.now();
  const pulse = document.getElementById("pulse");
  const endMs = () => fixedEndMs ?? Date.now() + serverAheadMs;
  const two = (number) => String(number).padStart(2, "0");

  // ---- what is known: buckets per series -------------------------------------------------------------------------

  const lines = new Map(); // "name unit" -> Map(time -> {min, max, mean, count, gaps})
  let cursor = "";

  function merge(bucket, part) {
    if (!bucket) return part;
    const count = bucket.count + part.count;
    if (part.count && bucket.count) {
      bucket.mean = (bucket.mean * bucket.count + part.mean * part.count) / count;
      bucket.min = Math.min(bucket.min, part.min);
      bucket.max = Math.max(bucket.max, part.max);
    } else if (part.count) {
      ({ min: bucket.min, max: bucket.max, mean: bucket.mean } = part);
    }
    bucket.count = count;
    bucket.gaps += part.gaps;
    return bucket;
  }

  function take(answer) {
    for (const series of answer.series) {
      const key = `${series.name} ${series.unit}`;
      if (!lines.has(key)) lines.set(key, new Map());
      const buckets = lines.get(key);
      series.times.forEach((time, i) => {
        const part = { min: series.min[i], max: series.max[i], mean: series.mean[i], count: series.count[i], gaps: series.gaps[i] };
        buckets.set(time, merge(buckets.get(time), part));
      });
    }
    cursor = answer.cursor;
  }

  function forget(beforeMs) {
    for (const buckets of lines.values()) {
      for (const time of buckets.keys()) if (time < beforeMs) buckets.delete(time);
    }
  }

  function silenceMs(times) {
    if (times.length < 3) return Infinity;
    const spacings = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
    return Math.max(SPACINGS_TO_GAP * spacings[spacings.length >> 1], 2.5 * stepMs);
  }

  // The buckets of one line as columns, with a null where the line must break: a failed read, or silence.
  function column(key) {
    const buckets = lines.get(key) ?? new Map();
    const times = [...buckets.keys()].sort((a, b) => a - b);
    const silence = silenceMs(times);
    const points = new Map();
    times.forEach((time, i) => {
      if (i && time - times[i - 1] > silence) points.set(times[i - 1] + stepMs, null);
      const bucket = buckets.get(time);
      points.set(time, bucket.count ? bucket : null);
    });
    return { points, times, buckets, silence };
  }

  // ---- drawing ---------------------------------------------------------------------------------------------------

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const charts = [];
  let colours = readColours();

  function readColours() {
    return {
      lines: [0, 1, 2, 3, 4, 5, 6, 7].map((n) => css(`--line-${n}`)),
      axis: css("--faint"), grid: css("--hair"), gap: css("--warn"),
    };
  }

  function clock(splits, incrementMs) {
    return splits.map((ms) => {
      const date = new Date(ms);
      if (date.getUTCHours() + date.getUTCMinutes() + date.getUTCSeconds() === 0) {
        return `${two(date.getUTCDate())}.${two(date.getUTCMonth() + 1)}.`;
      }
      const minutes = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
      return incrementMs < 60000 ? `${minutes}:${two(date.getUTCSeconds())}` : minutes;
    });
  }

  // Room above and below, and never a range so thin that noise looks like a storm.
  function padded(u, low, high) {
    u.blank = low === null || low === undefined;
    if (u.blank) return [0, 1];
    const resolution = 10 ** -u.decimals;
    const spread = Math.max(high - low, 10 * resolution);
    const middle = (low + high) / 2;
    return [middle - 0.62 * spread, middle + 0.62 * spread];
  }

  // The left axis is as wide as its longest label needs, and the same on most charts, so that their times stand in line.
  function wide(u, labels) {
    return Math.max(58, 14 + 7 * Math.max(0, ...(labels ?? []).map((label) => label.length)));
  }

  function drawGaps(u) {
    const height = Math.round(3 * devicePixelRatio);
    const bottom = u.bbox.top + u.bbox.height - height;
    u.ctx.save();
    u.ctx.fillStyle = colours.gap;
    for (const line of u.tideLines) {
      if (!line.shown) continue;
      for (const time of line.times ?? []) {
        if (!line.buckets.get(time).gaps) continue;
        const left = u.valToPos(time, "x", true);
        const right = u.valToPos(time + stepMs, "x", true);
        if (right > u.bbox.left && left < u.bbox.left + u.bbox.width) {
          u.ctx.fillRect(Math.max(left, u.bbox.left), bottom, Math.max(right - left, 2), height);
        }
      }
    }
    u.ctx.restore();
  }

  function options(chart) {
    const banded = chart.lines.length <= 4;
    const series = [{}];
    const bands = [];
    for (const line of chart.lines) {
      const stroke = colours.lines[line.colour];
      const common = { spanGaps: false, points: { show: false }, show: line.shown };
      if (banded) {
        series.push({ ...common, width: 0 }, { ...common, width: 0 });
        bands.push({ series: [series.length - 1, series.length - 2], fill: `${stroke}2e` });
      }
      series.push({ ...common, stroke, width: 1.6, points: { show: lonely, size: 4, fill: stroke } });
    }
    const axis = { stroke: colours.axis, grid: { stroke: colours.grid, width: 1 }, ticks: { show: false }, font: `11px ${css("--sans")}` };
    return {
      width: chart.plot.clientWidth || 300,
      height: HEIGHT_PX,
      padding: [8, 28, 0, 0], // half a time label stands right of the last line of the grid
      ms: 1,
      legend: { show: false },
      tzDate: (ms) => uPlot.tzDate(new Date(ms), "Etc/UTC"),
      scales: { x: { time: true, range: () => [endMs() - spanMs, endMs()] }, y: { range: padded } },
      series,
      bands,
      axes: [
        { ...axis, space: 64, size: 26, gap: 6, incrs: INCREMENTS_MS, values: (u, splits, axisIndex, space, increment) => clock(splits, increment) },
        { ...axis, size: wide, gap: 8, values: (u, splits) => splits.map((v) => (u.blank ? "" : v.toLocaleString("en", { maximumFractionDigits: 6 }))) },
      ],
      cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { show: false }, sync: { key: "tidegate", scales: ["x", null] } },
      hooks: { drawAxes: [(u) => tideBands.draw(u, chart.names())], draw: [drawGaps], setCursor: [(u) => point(chart, u)] },
    };
  }

  // A point is drawn only where no line can be: between two breaks.
  function lonely(u, seriesIndex, first, last) {
    return last - first < 2;
  }

  function build(chart) {
    chart.u?.destroy();
    chart.banded = chart.lines.length <= 4;
    const opts = options(chart);
    chart.u = new uPlot(opts, opts.series.map(() => []), chart.plot);
    chart.u.decimals = Math.max(...chart.lines.map((line) => line.decimals));
    chart.u.tideLines = chart.lines;
  }

  function draw(chart) {
    const columns = chart.lines.map((line) => Object.assign(line, column(line.key)));
    const xs = [...new Set(columns.flatMap((line) => [...line.points.keys()]))].sort((a, b) => a - b);
    const data = [xs];
    for (const line of columns) {
      const held = xs.map((x) => line.points.get(x)); // undefined: no point of this line, the line passes
      const values = (name) => held.map((bucket) => bucket && bucket[name]);
      if (chart.banded) data.push(values("min"), values("max"));
      data.push(values("mean"));
    }
    chart.u.setData(data);
    if (chart.u.cursor.left < 0 || chart.u.cursor.left === undefined) point(chart, chart.u);
  }

  // The number beside each name: under the pointer, or the newest in view.
  function point(chart, u) {
    const at = u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") : Infinity;
    if (at === Infinity || tideBands.cause(u, chart.names(), at)) chart.cause.textContent = tideBands.cause(u, chart.names(), at);
    for (const line of chart.lines) {
      const times = line.times ?? [];
      let index = times.length - 1;
      if (at !== Infinity) {
        const near = (i) => Math.abs(times[i] + stepMs / 2 - at);
        index = times.findIndex((time) => time > at);
        if (index < 0) index = times.length - 1;
        if (index > 0 && near(index - 1) < near(index)) index -= 1;
        if (index >= 0 && near(index) > Math.max(line.silence === Infinity ? 0 : line.silence, 3 * stepMs)) index = -1;
      }
      const bucket = index < 0 ? null : line.buckets.get(times[index]);
      const digits = { minimumFractionDigits: line.decimals, maximumFractionDigits: line.decimals };
      line.output.textContent = !bucket ? "–" : bucket.count ? bucket.mean.toLocaleString("en", digits) : "gap";
    }
  }

  for (const figure of root.querySelectorAll(".chart")) {
    const chart = { plot: figure.querySelector(".plot"), cause: figure.querySelector(".cause"), lines: [] };
    chart.names = () => chart.lines.filter((line) => line.shown).map((line) => line.name);
    for (const button of figure.querySelectorAll("button[data-series]")) {
      const line = {
        key: `${button.dataset.series} ${figure.dataset.unit}`,
        name: button.dataset.series,
        decimals: Number(button.dataset.decimals),
        colour: Number(button.dataset.colour),
        output: button.querySelector("output"),
        shown: true,
      };
      button.addEventListener("click", () => {
        line.shown = !line.shown;
        button.setAttribute("aria-pressed", String(line.shown));
        build(chart);
        draw(chart);
      });
      chart.lines.push(line);
    }
    charts.push(chart);
  }

  // ---- asking ----------------------------------------------------------------------------------------------------

  const names = () => new Set(charts.flatMap((chart) => chart.lines.map((line) => line.name)));

  function question() {
    const end = endMs();
    const query = new URLSearchParams({ gateway, step: `${stepMs / 1000}s` });
    // Whole buckets: the first one in view must not be cut.
    query.set("start", new Date(Math.floor((end - spanMs) / stepMs) * stepMs).toISOString());
    query.set("end", new Date(fixedEndMs ?? end + AHEAD_MS).toISOString());
    for (const name of names()) query.append("series", name);
    if (cursor) query.set("after", cursor);
    return `/v1/query?${query}`;
  }

  async function poll() {
    const answer = await fetch(question(), { signal: AbortSignal.timeout(10000) });
    if (answer.status === 400 && cursor) { // the cloud was restored from a backup: start again
      cursor = "";
      lines.clear();
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
  }

  function show(answer) {
    take(answer);
    redraw();
    root.dataset.updates = String(Number(root.dataset.updates ?? 0) + 1);
  }

  function redraw() {
    forget(endMs() - spanMs - 2 * stepMs);
    charts.forEach(draw);
  }

  // After a first answer the server tells what is new. A stream that fails hands back to asking, and asking to a stream.
  let stream = null;
  function follow() {
    const query = new URLSearchParams({ gateway, step: `${stepMs / 1000}s`, window: `${spanMs / 1000}s`, after: cursor });
    for (const name of names()) query.append("series", name);
    stream = new EventSource(`/v1/live?${query}`);
    const sliding = setInterval(redraw, POLL_MS);
    const end = () => {
      clearInterval(sliding);
      document.removeEventListener("visibilitychange", end);
      stream.close();
      stream = null;
      setTimeout(turn, POLL_MS);
    };
    stream.onopen = () => { root.dataset.source = "stream"; };
    stream.onmessage = (event) => show(JSON.parse(event.data));
    stream.onerror = end;
    document.addEventListener("visibilitychange", end); // a hidden page holds no connection
  }

  function say(state, text) {
    if (!pulse || pulse.dataset.state === state) return;
    pulse.dataset.state = state;
    pulse.textContent = text;
  }

  let wait = POLL_MS;
  async function turn() {
    if (!document.hidden) {
      try {
        root.dataset.source = "poll";
        await poll();
        wait = POLL_MS;
        say("live", "live");
        if (cursor && fixedEndMs === null && "EventSource" in window && !document.hidden) {
          follow();
          return;
        }
      } catch {
        wait = Math.min(2 * wait, POLL_MS_MAX);
        say("lost", "no answer, trying again");
      }
    }
    if (fixedEndMs === null || wait > POLL_MS) setTimeout(turn, wait);
  }

  charts.forEach(build);
  turn();
  new ResizeObserver(() => {
    for (const chart of charts) {
      const width = chart.plot.clientWidth;
      if (width && width !== chart.u.width) chart.u.setSize({ width, height: HEIGHT_PX });
    }
  }).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colours = readColours();
    charts.forEach((chart) => { build(chart); draw(chart); });
  });
})();
