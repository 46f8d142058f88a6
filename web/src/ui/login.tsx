import { useState } from "preact/hooks";
import { login, loginError, phase, signingIn, site } from "../state/account";
import { Icon, Mark } from "./icons";

export function Login() {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [visible, setVisible] = useState(false);
  const house = site.value?.name || site.value?.domain || "";
  const away = phase.value === "away";

  return (
    <main class="login">
      <form
        class="login-card"
        onSubmit={(event) => {
          event.preventDefault();
          if (!signingIn.value) void login(user, password);
        }}
      >
        <Mark size={52} />
        <h1>Sign in to your phone</h1>
        <p class="sub">{house}</p>
        <div class="problem-place" role="alert">
          {away && (
            <p class="problem">
              <Icon name="warning" size={18} /> The server cannot be reached. Trying again …
            </p>
          )}
          {!away && loginError.value && (
            <p class="problem">
              <Icon name="warning" size={18} /> {loginError.value}
            </p>
          )}
        </div>
        <label>
          Extension
          <input
            name="username"
            autocomplete="username"
            autocapitalize="none"
            spellcheck={false}
            required
            maxLength={64}
            value={user}
            onInput={(event) => setUser(event.currentTarget.value)}
            autofocus
          />
        </label>
        <label>
          Password
          <span class="with-button">
            <input
              name="password"
              type={visible ? "text" : "password"}
              autocomplete="current-password"
              required
              maxLength={128}
              value={password}
              onInput={(event) => setPassword(event.currentTarget.value)}
            />
            <button
              type="button"
              class="inside"
              aria-label="Show password"
              aria-pressed={visible}
              onClick={() => setVisible(!visible)}
            >
              <Icon name="eye" size={19} />
            </button>
          </span>
        </label>
        <button class="primary wide" type="submit" disabled={signingIn.value || away}>
          {signingIn.value ? "Signing in …" : "Sign in"}
        </button>
      </form>
    </main>
  );
}
