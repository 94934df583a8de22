// Shows the description beside this page; asks nobody else for anything.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
  plugins: [linesAsTheyAre],
});

// Swagger UI takes NDJSON for JSON, and would send the lines of an example as one JSON string.
function linesAsTheyAre() {
  return {
    afterLoad(system) {
      const sample = system.fn.getSampleSchema;
      system.fn.getSampleSchema = (schema, mediaType, ...rest) => {
        const shown = sample(schema, mediaType, ...rest);
        const isQuoted = mediaType === "application/x-ndjson" && /^"/.test(shown);
        return isQuoted ? JSON.parse(shown) : shown;
      };
    },
  };
}
