'use strict';
const one = (what) => document.querySelector(what);
const every = (what) => Array.from(document.querySelectorAll(what));
const rows = every('[data-find]');
const field = one('#filter');
const outcome = one('#outcome');
const shown = one('#shown');
function apply() {
  const words = field.value.toLowerCase().split(' ');
  let count = 0;
  for (const row of rows) {
    const named = words.every((word) => row.dataset.find.includes(word));
    const hit = named ? [row.dataset.outcome, ''].includes(outcome.value) : false;
    row.hidden = !hit;
    count += hit ? Number(row.tagName === 'TR') : 0;
  }
  shown.textContent = count + ' shown';
}
one('form').hidden = false;
field.addEventListener('input', apply);
outcome.addEventListener('change', apply);
document.addEventListener('keydown', (event) => {
  const typing = ['INPUT', 'SELECT'].includes(event.target.tagName);
  if (event.key === '/' ? !typing : false) {
    event.preventDefault();
    field.focus();
  }
});
addEventListener('beforeprint', () => {
  for (const part of every('details')) part.open = true;
});
apply();
