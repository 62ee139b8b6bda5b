from tests.isolation.attacks import main

main()
