'use strict';
(() => {
  const tip = document.getElementById('tip');
  const show = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 6)) + 'px';
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + 'px';
  };
  const hide = () => { tip.hidden = true; };
  for (const mark of document.querySelectorAll('.tip')) {
    mark.addEventListener('pointermove', (event) => show(mark.dataset.tip, event.clientX, event.clientY));
    mark.addEventListener('pointerleave', hide);
    mark.addEventListener('focus', () => {
      const box = mark.getBoundingClientRect();
      show(mark.dataset.tip, box.left + box.width / 2, box.top + box.height / 2);
    });
    mark.addEventListener('blur', hide);
  }
  // Lines of many points are read all at once, at the place that is pointed at.
  for (const svg of document.querySelectorAll('svg[data-hover]')) {
    const data = JSON.parse(svg.dataset.hover);
    const cross = svg.querySelector('.cross');
    const nearest = (points, x) => {
      let low = 0, high = points.length - 1;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (points[middle][0] < x) low = middle; else high = middle;
      }
      return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
    };
    svg.addEventListener('pointermove', (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      if (at.x < data.left || at.x > data.right || at.y < data.top || at.y > data.bottom) {
        cross.setAttribute('visibility', 'hidden');
        return hide();
      }
      const x = data.x[0] + (at.x - data.left) / (data.right - data.left) * (data.x[1] - data.x[0]);
      const place = nearest(data.lines[0].points, x)[0];
      const shown = data.left + (place - data.x[0]) / (data.x[1] - data.x[0]) * (data.right - data.left);
      for (const end of ['x1', 'x2']) cross.setAttribute(end, shown);
      cross.setAttribute('y1', data.top);
      cross.setAttribute('y2', data.bottom);
      cross.setAttribute('visibility', 'visible');
      const values = data.lines.map((line) => line.name + ': ' + nearest(line.points, place)[1]);
      show([place + ' ' + data.label, ...values].join('\n'), event.clientX, event.clientY);
    });
    svg.addEventListener('pointerleave', () => { cross.setAttribute('visibility', 'hidden'); hide(); });
  }
  // One rate at a time.
  for (const details of document.querySelectorAll('details.time')) {
    const buttons = [...details.querySelectorAll('[data-rate]')];
    const choose = (rate) => {
      for (const button of buttons) button.setAttribute('aria-pressed', String(button.dataset.rate === rate));
      for (const charts of details.querySelectorAll('[data-at]')) charts.style.display = charts.dataset.at === rate ? '' : 'none';
    };
    for (const button of buttons) button.addEventListener('click', () => choose(button.dataset.rate));
    if (buttons.length) choose(buttons[buttons.length >> 1].dataset.rate);
  }
})();
