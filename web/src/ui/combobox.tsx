import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Person } from "../state/api";
import { search, searchFar } from "../state/people";
import { Avatar } from "./parts";
import { Icon } from "./icons";

const SHOWN = 6;

interface Props {
  label: string;
  value: string;
  onInput: (value: string) => void;
  /** A person was chosen, or Enter was pressed on what is written. */
  onChoose: (who: string) => void;
  autoFocus?: boolean;
  placeholder?: string;
  big?: boolean;
}

/** A field for a number or a name, with the people that match (ARIA combobox pattern). */
export function PersonField(props: Props) {
  const { label, value, onInput, onChoose, autoFocus, placeholder, big } = props;
  const id = useId();
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const [far, setFar] = useState<Person[]>([]);
  const field = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (autoFocus) field.current?.focus();
  }, []);
  useEffect(() => {
    setActive(-1);
    setFar([]);
    const text = value.trim();
    if (text.length < 2) return;
    const timer = window.setTimeout(() => {
      searchFar(text).then(setFar, () => setFar([]));
    }, 250);
    return () => window.clearTimeout(timer);
  }, [value]);

  const near = value.trim() === "" ? [] : search(value);
  const known = new Set(near.map((one) => one.user));
  const found = [...near, ...far.filter((one) => !known.has(one.user))].slice(0, SHOWN);
  // What is written is the number of the only match: nothing to choose.
  const exact = found.length === 1 && found[0]!.user === value.trim();
  const listed = open && found.length > 0 && !exact;

  const choose = (who: string): void => {
    setOpen(false);
    onChoose(who);
  };
  const keyed = (event: KeyboardEvent): void => {
    switch (event.key) {
      case "ArrowDown":
      case "ArrowUp": {
        if (found.length === 0) return;
        setOpen(true);
        const step = event.key === "ArrowDown" ? 1 : -1;
        setActive((active + step + found.length + 1) % (found.length + 1));
        break;
      }
      case "Enter": {
        const chosen = listed ? found[active] : undefined;
        // A name is not a number: take the person that is meant.
        const meant = chosen ?? (/^[\p{L}][\p{L}\s.'-]*$/u.test(value.trim()) ? found[0] : undefined);
        choose(meant?.user ?? value);
        break;
      }
      case "Escape":
        if (!listed) return;
        setOpen(false);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div class={big ? "person-field big" : "person-field"}>
      <label class="sr-only" for={id}>
        {label}
      </label>
      {!big && <Icon name="search" size={18} />}
      <input
        id={id}
        ref={field}
        type="text"
        inputMode="text"
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        maxLength={80}
        role="combobox"
        aria-expanded={listed}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        {...(listed && active >= 0 && active < found.length
          ? { "aria-activedescendant": `${id}-${active}` }
          : {})}
        placeholder={placeholder ?? "Name or number"}
        value={value}
        onInput={(event) => {
          setOpen(true);
          onInput(event.currentTarget.value);
        }}
        onKeyDown={keyed}
        onBlur={() => setOpen(false)}
      />
      <ul id={`${id}-list`} role="listbox" aria-label="People" hidden={!listed}>
        {listed &&
          found.map((one, index) => (
            <li
              key={one.user}
              id={`${id}-${index}`}
              role="option"
              aria-selected={index === active}
              class={index === active ? "active" : ""}
              onMouseDown={(event) => {
                // Before the field loses the focus and the list goes.
                event.preventDefault();
                choose(one.user);
              }}
            >
              <Avatar user={one.user} name={one.name} size={30} lamp />
              <span class="who">{one.name}</span>
              {one.name !== one.user && <span class="number">{one.user}</span>}
            </li>
          ))}
      </ul>
    </div>
  );
}
