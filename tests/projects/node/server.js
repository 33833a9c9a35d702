const express = require("express");
const app = express();
app.get("/", (request, response) => response.json({ hello: request.query.name ?? "world" }));
app.listen(3000, "0.0.0.0");
process.on("SIGINT", () => process.exit(0));
