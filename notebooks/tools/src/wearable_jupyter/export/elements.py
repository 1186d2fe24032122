"""Element names that browsers support."""

# HTML, SVG and MathML. A name that is not listed, such as `T` in `Vec<T>`, is rendered as text.
_NAMES = """
    a abbr acronym address area article aside audio b base bdi bdo big blink blockquote body br
    button canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir
    div dl dt em embed fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6
    head header hgroup hr html i iframe img input ins kbd label legend li link main map mark marquee
    menu meta meter nav nobr noframes noscript object ol optgroup option output p param picture
    plaintext pre progress q rp rt ruby s samp script search section select slot small source span
    strike strong style sub summary sup table tbody td template textarea tfoot th thead time title
    tr track tt u ul var video wbr xmp
    animate animatemotion animatetransform circle clippath defs desc ellipse feblend fecolormatrix
    fecomponenttransfer fecomposite feconvolvematrix fediffuselighting fedisplacementmap
    fedropshadow feflood fefunca fefuncb fefuncg fefuncr fegaussianblur feimage femerge femergenode
    femorphology feoffset fespecularlighting fetile feturbulence filter foreignobject g image line
    lineargradient marker mask metadata path pattern polygon polyline radialgradient rect set stop
    svg switch symbol text textpath tspan use view
    annotation maction math menclose merror mfrac mi mmultiscripts mn mo mover mpadded mphantom
    mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder
    munderover none semantics
"""
ELEMENTS = frozenset(_NAMES.split())
