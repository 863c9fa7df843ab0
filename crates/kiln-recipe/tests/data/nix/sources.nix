let
  make = name: attributes:
    derivation ({ inherit name; builder = "/bin/sh"; system = "x86_64-linux"; } // attributes);
  matches = pattern: text: builtins.match pattern text != null;
  tool = builtins.path { path = ./tree/tool; name = "renamed-tool"; };
  all = builtins.mapAttrs make {
    named-sources = {
      args = [ "-c" "cat ${./greeting.txt} ${./tree}/sub/b.c > $out" ];
      inherit tool;
      list = [ ./greeting.txt "${./tree}/tool" ];
    };

    filtered.src = "${builtins.path {
      path = ./tree;
      name = "some";
      filter = path: type:
        let name = baseNameOf path; in
        (!matches ".*\\.o" name || name == "keep.o") && !(name == "sub" && type == "directory");
    }}";

    everything.src = builtins.path {
      path = ./.;
      name = "all";
      filter = path: type:
        !(dirOf path == toString ./. && matches "peer|.*\\.toml" (baseNameOf path))
        && !matches ".*\\.nix" (baseNameOf path);
    };

    inline = {
      src = ./tree/sub;
      other = builtins.path { path = ./greeting.txt; name = "text"; };
      same = ./greeting.txt;
    };

    builder-source.builder = tool;

    uses.args = [ "${all.named-sources}" "${./greeting.txt}" ];
  };
in
all
