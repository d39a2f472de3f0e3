// Keeps the page, the model and what runs it in the browser: after the first visit they need no network.
// VERSION and FILES are written before this by the export.
const PREFIX = `${registration.scope}#`, NAME = PREFIX + VERSION;

addEventListener("install", event => event.waitUntil(caches.open(NAME).then(cache => cache.addAll(["./", ...FILES]))));

// Only when nobody has the former version open any more: its page and its model belong together.
addEventListener("activate", event => event.waitUntil(caches.keys().then(names =>
  Promise.all(names.filter(name => name.startsWith(PREFIX) && name !== NAME).map(name => caches.delete(name))))));

addEventListener("fetch", event => event.respondWith(caches.open(NAME)
  .then(cache => cache.match(event.request.mode === "navigate" ? "./" : event.request))
  .then(found => found ?? fetch(event.request))));
