// The docs page: Swagger UI, with what people missed in it. What is wrapped here is described in Swagger UI's own
// docs/customization: a plugin adds functions and wraps actions and components by their names.

const KEPT = "segmentation-authorized";

// A call is found by its path, its summary or its group.
function opsFilter(groups, phrase) {
  const wanted = phrase.toLowerCase();
  const isFound = (text) => String(text).toLowerCase().includes(wanted);
  return groups
    .map((group, name) =>
      isFound(name)
        ? group
        : group.update("operations", (calls) =>
            calls.filter((call) => isFound(call.get("path")) || isFound(call.getIn(["operation", "summary"]))),
          ),
    )
    .filter((group) => group.get("operations").size > 0);
}

// Under "Execute", beside curl. A JSON text is a literal of Python as well.
function snippetParts(request) {
  const headers = Object.entries(request.get("headers")?.toJS() ?? {});
  const body = request.get("body");
  return { method: request.get("method"), url: request.get("url"), headers, body: body && String(body) };
}

function requestSnippetGenerator_python(request) {
  const { method, url, headers, body } = snippetParts(request);
  return [
    "import urllib.request",
    "",
    "request = urllib.request.Request(",
    `    ${JSON.stringify(url)},`,
    `    method=${JSON.stringify(method)},`,
    "    headers={",
    ...headers.map(([name, value]) => `        ${JSON.stringify(name)}: ${JSON.stringify(value)},`),
    "    },",
    ...(body ? [`    data=${JSON.stringify(body)}.encode(),`] : []),
    ")",
    "with urllib.request.urlopen(request) as answer:",
    "    print(answer.read().decode())",
  ].join("\n");
}

function requestSnippetGenerator_javascript(request) {
  const { method, url, headers, body } = snippetParts(request);
  return [
    `const answer = await fetch(${JSON.stringify(url)}, {`,
    `  method: ${JSON.stringify(method)},`,
    "  headers: {",
    ...headers.map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)},`),
    "  },",
    ...(body ? [`  body: ${JSON.stringify(body)},`] : []),
    "});",
    "console.log(answer.status, await answer.text());",
  ].join("\n");
}

// The link of a report can be clicked.
const responseBody =
  (Original, { React }) =>
  (props) => {
    let link = null;
    try {
      const url = new URL(JSON.parse(props.content).url);
      link = ["http:", "https:"].includes(url.protocol) ? url.href : null;
    } catch {
      // Not JSON, or no url in it.
    }
    return React.createElement(
      "div",
      null,
      React.createElement(Original, props),
      link && React.createElement("a", { className: "answered-link", href: link }, `Open ${link}`),
    );
  };

// Lines can be taken from a file, plain or gzip.
async function textOf(file) {
  const unzipped = file.name.endsWith(".gz")
    ? file.stream().pipeThrough(new DecompressionStream("gzip"))
    : file.stream();
  return new Response(unzipped).text();
}

const RequestBody =
  (Original, { React }) =>
  (props) =>
    React.createElement(
      "div",
      null,
      props.isExecute &&
        props.contentType === "text/csv" &&
        React.createElement(
          "label",
          { className: "file-chooser" },
          "From a file: ",
          React.createElement("input", {
            type: "file",
            accept: ".csv,.txt,.gz",
            onChange: async (event) => {
              const [file] = event.target.files;
              if (file) props.onChange(await textOf(file));
            },
          }),
        ),
      React.createElement(Original, props),
    );

// The key lives as long as the browser's tab.
const persistAuthorizationIfNeeded =
  (original, { authSelectors }) =>
  () => {
    sessionStorage.setItem(KEPT, JSON.stringify(authSelectors.authorized().toJS()));
  };

function restoreKey() {
  // An earlier release left it here.
  localStorage.removeItem("authorized");
  const kept = sessionStorage.getItem(KEPT);
  if (kept) window.ui.authActions.restoreAuthorization({ authorized: JSON.parse(kept) });
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

window.ui = SwaggerUIBundle({
  url: new URL("../openapi.json", document.currentScript.src).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  filter: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
  syntaxHighlight: { theme: "tomorrow-night" },
  requestSnippetsEnabled: true,
  requestSnippets: {
    languages: ["curl_bash", "python", "javascript"],
    generators: {
      curl_bash: { title: "curl", syntax: "bash" },
      python: { title: "Python", syntax: "python" },
      javascript: { title: "JavaScript", syntax: "javascript" },
    },
  },
  onComplete: restoreKey,
  plugins: [
    {
      fn: { opsFilter, requestSnippetGenerator_python, requestSnippetGenerator_javascript },
      wrapComponents: { responseBody, RequestBody },
      statePlugins: { auth: { wrapActions: { persistAuthorizationIfNeeded } } },
    },
  ],
});

// A link of the description opens its call, here and not in a new window.
addEventListener("click", (event) => {
  const link = event.target.closest(".info a[href^='#/']");
  if (!link) return;
  event.preventDefault();
  window.ui.layoutActions.parseDeepLinkHash(link.hash);
});
