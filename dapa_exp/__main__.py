from dapa_exp.cli.dispatch import main

raise SystemExit(main())
