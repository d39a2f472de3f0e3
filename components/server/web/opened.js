// A browser loads neither modules nor WebAssembly from a file on the disk.
if (location.protocol === "file:") {
  document.getElementById("error").textContent =
    "A browser cannot run the model from a folder that is opened as files. Put the folder on a web server, or start " +
    "one here: python -m http.server, and open http://localhost:8000";
  document.getElementById("error").hidden = false;
  document.getElementById("empty").hidden = true;
}
