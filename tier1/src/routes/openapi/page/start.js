// The document's address is relative, so that it is found behind a proxy that adds to the path.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
