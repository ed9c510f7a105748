def test_it_greets_and_counts(l1, l2, plugin):
    l1.connect(l2.node_id, "127.0.0.1", l2.port)

    l1.wait_for_log(f"welcome {l2.node_id}")
    assert l1.call("PLUGIN_NAME-count") == {"connections": 1}
