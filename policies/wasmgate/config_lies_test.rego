package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

refused["config-lies"] := fixture.pod({"claims": [{
	"field": "component.imports",
	"claimed": "nothing",
	"found": "wasi:sockets/tcp@0.2.6",
}]})

admitted["config-lies"] := fixture.pod({"claims": []})

test_a_config_that_says_something_else_than_the_bytes_is_refused if {
	wasmgate.violations == {{
		"rule": "config-lies",
		"container": "web",
		"message": concat("", [
			"container `web`: the config of image `ghcr.io/myorg/orders:1.4` says `nothing` in `component.imports`, ",
			"and its bytes say `wasi:sockets/tcp@0.2.6`: build the image again with a tool that writes the config ",
			"from the module",
		]),
	}} with input as refused["config-lies"]
}

test_an_image_that_is_only_mounted_may_say_what_it_likes if {
	rules_of(object.union(refused["config-lies"], {"containers": [object.union(
		refused["config-lies"].containers[0],
		{"role": "imageVolume"},
	)]})) == set()
}
