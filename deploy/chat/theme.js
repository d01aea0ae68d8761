// Runs before the page is drawn, so that a chosen theme does not flash in the other one.
try {
  const { theme } = JSON.parse(localStorage.getItem("humpty.settings") || "{}");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // without storage the system's theme it is
}
