// Alarms on the charts: shaded from onset to the end, with the cause in words. They are read from the page's own list
// of alarms, which `refresh.js` keeps fresh.
"use strict";

const tideBands = (() => {
  const EDGE_PX = 2;
  const two = (number) => String(number).padStart(2, "0");

  function alarms(names) {
    const found = [];
    for (const row of document.querySelectorAll("#alarms [data-onset-ms]")) {
      if (!names.includes(row.dataset.series)) continue;
      const { onsetMs, clearedMs, severity, cause } = row.dataset;
      found.push({ from: Number(onsetMs), to: clearedMs ? Number(clearedMs) : Infinity, severity, cause });
    }
    return found;
  }

  const colour = (severity) => getComputedStyle(document.documentElement).getPropertyValue(`--alarm-${severity}`).trim();

  function inView(u, alarm) {
    return alarm.from <= u.scales.x.max && alarm.to >= u.scales.x.min;
  }

  // Beneath the lines of chart `u`, which shows the series `names`.
  function draw(u, names) {
    const { left, top, width, height } = u.bbox;
    const right = left + width;
    u.ctx.save();
    for (const alarm of alarms(names)) {
      if (!inView(u, alarm)) continue;
      const from = Math.max(left, u.valToPos(alarm.from, "x", true));
      const to = alarm.to === Infinity ? right : Math.min(right, u.valToPos(alarm.to, "x", true));
      u.ctx.fillStyle = colour(alarm.severity);
      u.ctx.globalAlpha = 0.16;
      u.ctx.fillRect(from, top, Math.max(to - from, EDGE_PX), height);
      u.ctx.globalAlpha = 0.8;
      u.ctx.fillRect(from, top, Math.max(to - from, EDGE_PX), EDGE_PX * devicePixelRatio);
    }
    u.ctx.restore();
  }

  // The cause at a moment, or of the newest alarm in view when the moment is Infinity; "" when there is none.
  function cause(u, names, at) {
    const hit = alarms(names).filter((alarm) => inView(u, alarm) && (at === Infinity || (alarm.from <= at && at <= alarm.to)));
    hit.sort((a, b) => b.from - a.from);
    return hit.length ? `${clock(hit[0].from)} ${hit[0].cause}` : "";
  }

  function clock(ms) {
    const date = new Date(ms);
    return `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
  }

  return { draw, cause };
})();
