import { render } from "preact";
import "./style/index.css";
import { App } from "./App";
import { follow } from "./router";
import { start } from "./state/feed";

follow();
render(<App />, document.getElementById("page")!);
void start();
