// Follows Airflow's colour mode, which its UI keeps in the local storage of this origin; else the system's.
// A classic script in the head: it runs before the first paint.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  }

  function apply() {
    const theme = chosen();
    const isDark = theme === "dark" || (theme !== "light" && dark.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  }

  apply();
  addEventListener("storage", apply);
  dark.addEventListener("change", apply);
})();
