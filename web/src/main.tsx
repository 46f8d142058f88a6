import { render } from "preact";
import { begin } from "./state/account";
import { App } from "./ui/app";
import "./style.css";
import "./state/phone";

render(<App />, document.getElementById("app")!);
void begin();
