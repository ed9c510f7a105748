//! Mistakes in Python.

use anyhow::Context;

use super::mistakes::{Mistake, m};

/// Why the course is not walked in Python here.
pub fn skipped() -> Option<String> {
    let why = format!("{:#}", path().err()?);
    Some(why.lines().next().unwrap_or_default().to_owned())
}

/// The PATH on which `python3` has pyln-client.
pub fn path() -> anyhow::Result<String> {
    let python = lab_tests::python::with(&["pyln-client==26.6.6"])?;
    let folder = python.parent().context("no folder")?;
    Ok(format!("{}:{}", folder.display(), std::env::var("PATH")?))
}

pub const MISTAKES: &[Mistake] = &[
    m(
        "lab",
        "#!/usr/bin/env python3",
        "#!/usr/bin/env pyton3",
        "names pyton3, which is not on the PATH",
    ),
    m("lab", "import sys", "import syss", "install `syss`"),
    m(
        "getmanifest",
        "request[\"id\"]",
        "1",
        "came:     {\"jsonrpc\":\"2.0\",\"id\":1",
    ),
    m(
        "getmanifest",
        "request[\"id\"]",
        "str(request[\"id\"])",
        "came:     {\"jsonrpc\":\"2.0\",\"id\":\"187\"",
    ),
    m(
        "init",
        "    sys.stdout.flush()\n",
        "",
        "flush stdout after each message",
    ),
    m(
        "init",
        "        answer(message, {})\n",
        "        break\n",
        "it ended",
    ),
    m(
        "init",
        "for line in sys.stdin:",
        "print('hello')\nfor line in sys.stdin:",
        "only JSON-RPC goes to stdout",
    ),
    m(
        "dynamic",
        "\"dynamic\": True",
        "\"dynamic\": False",
        "Not a dynamic plugin",
    ),
    m(
        "dynamic",
        "\"dynamic\": True",
        "\"dynamik\": True",
        "Not a dynamic plugin",
    ),
    m(
        "connect",
        "[\"connect\"]",
        "[\"conect\"]",
        "expected: \"subscriptions\": [\"connect\"]",
    ),
    m(
        "connect",
        "file.write(f\"{message['method']} ",
        "file.write(f\"{message['params']['id']} ",
        "KeyError: 'id'",
    ),
    m(
        "connect",
        "{json.dumps(message)}",
        "{message}",
        "`json.dumps(…)` makes JSON of it",
    ),
    m(
        "disconnect",
        "[\"connect\", \"disconnect\"]",
        "[\"connect\"]",
        "\"subscriptions\": [\"connect\",\"disconnect\"]",
    ),
    m(
        "disconnect",
        "{message['method']} notification",
        "connect notification",
        "the line `disconnect notification",
    ),
    m(
        "stream",
        "if line == \"\\n\":",
        "if True:",
        "JSONDecodeError",
    ),
    m(
        "stream",
        "{json.dumps(message)}\\n",
        "{json.dumps(message, indent=1)}\\n",
        "came:     the line `connect notification: {`",
    ),
    m(
        "silence",
        "elif \"id\" in message:\n        refuse",
        "else:\n        message.setdefault(\"id\", None)\n        refuse",
        "must not be answered",
    ),
    m("silence", "-32601", "-1", "-32601"),
    m(
        "log",
        "log(f\"recorded {message['method']}\")",
        "print(f\"recorded {message['method']}\")",
        "only JSON-RPC goes to stdout",
    ),
    m(
        "log",
        "log(f\"recorded {message['method']}\")",
        "print(f\"recorded {message['method']}\", file=sys.stderr)",
        "no such message",
    ),
    m(
        "library",
        "params.get(topic, params)",
        "params[topic]",
        "KeyError: 'connect'",
    ),
    m(
        "library",
        "from pyln.client",
        "from pyln.clien",
        "No module named",
    ),
    m("invoice", "os.umask(0o077)\n", "", "mode 06"),
    m(
        "invoice",
        "@plugin.subscribe(\"invoice_creation\")",
        "@plugin.subscribe(\"invoice_created\")",
        "\"invoice_creation\"",
    ),
    m(
        "error",
        "raise ValueError(f\"{label} is burnt\")",
        "sys.exit(1)",
        "burnt-",
    ),
    m(
        "error",
        "raise ValueError(f\"{label} is burnt\")",
        "return",
        "in l1's log",
    ),
    m(
        "method",
        "        count += 1\n",
        "",
        "expected: {\"count\":2}",
    ),
    m(
        "method",
        "open(plugin.get_option(\"events-file\"), \"a\")",
        "open(\"myplugin.txt\", \"a\")",
        "no such line",
    ),
    m(
        "restart",
        "configuration[\"startup\"]",
        "True",
        "started by hand",
    ),
    m(
        "restart",
        "    plugin.log(f\"started {how}\")\n",
        "    pass\n",
        "nothing is logged",
    ),
    m(
        "all",
        "        sys.exit(0)\n",
        "        return\n",
        "it still runs",
    ),
    m(
        "all",
        "@plugin.subscribe(\"*\")",
        "@plugin.subscribe(\"connect\")\n@plugin.subscribe(\"*\")",
        "expected: \"subscriptions\": [\"*\"]",
    ),
    m(
        "order",
        "                number = int(line.split(\" \")[0])\n",
        "                pass\n",
        "`201 connect",
    ),
    m(
        "order",
        "{number} {topic}",
        "{topic}",
        "N TOPIC notification",
    ),
    m(
        "topic",
        "plugin.add_notification_topic(\"counted\")\n",
        "",
        "\"notifications\": [{\"method\": \"counted\"}]",
    ),
    m(
        "topic",
        "plugin.notify(\"counted\", {\"count\": count})",
        "plugin.notify(\"counted\", {})",
        "\"count\":1",
    ),
    m(
        "hook",
        "    return {\"result\": \"continue\"}\n",
        "",
        "\"result\":\"continue\"",
    ),
    m(
        "hook",
        "startswith(\"no-\")",
        "startswith(\"yes-\")",
        "\"result\":\"reject\"",
    ),
    m(
        "test",
        "sys.exit(\"the connection was not counted\")",
        "sys.exit(0)",
        "a failure",
    ),
    m(
        "test",
        "while count() == before:",
        "while count() <= before + 1000:",
        "exit status 0",
    ),
    m(
        "releases",
        "int(Millisatoshi(payment[\"msat\"]))",
        "payment[\"msat\"]",
        "C0405 `invoice_payment`: TypeError: '<' not supported between instances of 'str' and \
         'int', on v23.02.2–v23.08.1",
    ),
    m(
        "releases",
        "int(Millisatoshi(payment[\"msat\"]))",
        "int(payment[\"msat\"].replace(\"msat\", \"\"))",
        "AttributeError: 'int' object has no attribute 'replace', on v23.11.2–v26.06.6",
    ),
];
