import { render } from "preact";
import "./style/index.css";
import { App } from "./App";
import { follow } from "./router";
import { start } from "./state/feed";

follow();
void start(); // its first question is on its way while the page is drawn
render(<App />, document.getElementById("page")!);
