'use strict';
const one = (what) => document.querySelector(what);
const every = (what) => Array.from(document.querySelectorAll(what));
const rows = every('[data-find]');
const field = one('#filter');
const outcome = one('#outcome');
const shown = one('#shown');
const more = one('#more');
// The layout of a table of thousands of rows takes a browser seconds, with each letter of the filter again.
let most = 500;
function apply() {
  const words = field.value.toLowerCase().split(' ');
  const found = { TR: 0, DETAILS: 0 };
  for (const row of rows) {
    const named = words.every((word) => row.dataset.find.includes(word));
    const hit = named ? [row.dataset.outcome, ''].includes(outcome.value) : false;
    found[row.tagName] += Number(hit);
    row.hidden = hit ? found[row.tagName] > most : true;
  }
  const left = found.TR > most;
  shown.textContent = left ? most + ' of ' + found.TR + ' shown' : found.TR + ' shown';
  more.hidden = !left;
}
function all() {
  most = Infinity;
  apply();
}
// A link into a part that is closed, or that is left out, opens it.
function follow() {
  const target = document.getElementById(location.hash.slice(1));
  const part = target ? target.closest('details') : null;
  if (part) {
    part.hidden = false;
    part.open = true;
    target.scrollIntoView();
  }
}
one('form').hidden = false;
field.addEventListener('input', apply);
outcome.addEventListener('change', apply);
more.addEventListener('click', all);
addEventListener('hashchange', follow);
document.addEventListener('keydown', (event) => {
  const typing = ['INPUT', 'SELECT'].includes(event.target.tagName);
  if (event.key === '/' ? !typing : false) {
    event.preventDefault();
    field.focus();
  }
});
// Paper shows all, and open. Afterwards the screen is as it was: thousands of open parts would be slow.
let onScreen = { most: most, closed: [] };
addEventListener('beforeprint', () => {
  onScreen = { most: most, closed: every('details:not([open])') };
  all();
  for (const part of onScreen.closed) part.open = true;
});
addEventListener('afterprint', () => {
  for (const part of onScreen.closed) part.open = false;
  most = onScreen.most;
  apply();
});
apply();
follow();
